"""A DCP folder's `.metadata`, read without running anything that stands in it.

`.metadata` is a pickle, and torch would execute it. Here every name in it becomes an inert record
made for this one reading; a name that torch's own writer does not use is refused. From the records,
torch's metadata is built anew, so that the load sees only what was vetted. Knows no model.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from llada_exp.checkpoints.common import Shape, some
from llada_exp.checkpoints.explain import broken_file

_RECORDS: dict[str, tuple[str, ...]] = {
    "torch.distributed.checkpoint.metadata": (
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
        "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch.serialization": ("_get_layout",),
    "pathlib": ("Path", "PosixPath", "WindowsPath"),
    "pathlib._local": ("PosixPath",),
}  # fmt: skip
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

Chunk = tuple[Shape, Shape]
"""Offsets and sizes of the part of a tensor that one shard holds."""


@dataclass
class Stored:
    """One tensor of the checkpoint: its full shape, dtype, and where its chunks lie."""

    shape: Shape
    dtype: torch.dtype
    places: dict[Chunk, tuple[str, int, int]] = field(default_factory=dict)
    """chunk -> file name, offset and length in bytes."""


def read_metadata(folder: Path) -> dict[str, Stored]:
    """Tensor name -> what `.metadata` says of it.

    Raises ValueError naming the file for a pickle that names anything but torch's records, a broken
    file, byte entries (torch would unpickle them), compressed shards and chunks that do not cover
    their tensor.
    """
    path = folder / ".metadata"
    try:
        root = _InertUnpickler(path).load()
        return _tensors(path, root)
    except ValueError:
        raise
    except Exception as error:  # a broken pickle fails in any way, and so do records of another shape
        reason = broken_file(path) or repr(error)
        raise ValueError(f"{path}: not a readable DCP metadata file: {reason}") from error


class _InertUnpickler(pickle.Unpickler):
    """Resolves names to records of this one reading: nothing of the process can be called or changed."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.BytesIO(path.read_bytes()))
        self._path = path
        self._made: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        key = (module, name)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if key == ("torch", "Size"):
            return self._made.setdefault(key, type("Size", (tuple,), {}))
        if name not in _RECORDS.get(module, ()):
            raise ValueError(
                f"{self._path}: names {module}.{name}; expected only torch's own checkpoint records: refused"
            )
        return self._made.setdefault(key, type(name, (_Record,), {}))


class _Record:
    """Keeps the state that a pickle gives it, and does nothing."""

    def __new__(cls, *arguments: Any) -> _Record:
        return object.__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _tensors(path: Path, root: Any) -> dict[str, Stored]:
    tensors: dict[str, Stored] = {}
    chunks: dict[str, list[Chunk]] = {}
    entries = root.state["state_dict_metadata"]
    not_tensors = [name for name, entry in entries.items() if type(entry).__name__ != "TensorStorageMetadata"]
    if not_tensors:
        raise ValueError(
            f"{path}: entries that are no tensors, which torch would unpickle: {some(not_tensors)}; "
            "expected weights only"
        )
    for name, entry in entries.items():
        dtype = entry.state["properties"].state[0]
        if dtype not in _DTYPES:
            raise ValueError(f"{path}: {name} is {dtype}; expected one of {', '.join(map(str, _DTYPES))}")
        tensors[name] = Stored(_ints(entry.state["size"]), dtype)
        chunks[name] = [(_ints(c.state["offsets"]), _ints(c.state["sizes"])) for c in entry.state["chunks"]]
        check_cover(path, name, tensors[name].shape, chunks[name])
    _place_chunks(path, tensors, chunks, root.state["storage_data"])
    return tensors


def _place_chunks(
    path: Path, tensors: dict[str, Stored], chunks: dict[str, list[Chunk]], storage: dict[Any, Any]
) -> None:
    """Fill in `Stored.places` from the storage records. Raises ValueError for one without a file."""
    where = {(index.state["fqn"], _ints(index.state.get("offset") or ())): i for index, i in storage.items()}
    for name, parts in chunks.items():
        for offsets, sizes in parts:
            info = where.get((name, offsets))
            if info is None:
                raise ValueError(f"{path}: no file is named for {name} at {offsets}")
            file, offset, length = (info.state[key] for key in ("relative_path", "offset", "length"))
            if info.state.get("transform_descriptors"):
                raise ValueError(f"{path}: {name} is stored compressed, which is not implemented")
            if not isinstance(file, str) or Path(file).name != file:
                raise ValueError(f"{path}: names {file!r}; expected files beside it")
            tensors[name].places[offsets, sizes] = (file, *_ints((offset, length)))


def _ints(values: Iterable[Any]) -> Any:
    values = tuple(values)
    if not all(type(v) is int and v >= 0 for v in values):
        raise ValueError(f"found {values!r}; expected whole numbers")
    return values


def check_cover(path: Path, name: str, shape: Shape, chunks: list[Chunk]) -> None:
    """Raises ValueError unless the chunks lie inside the tensor, do not overlap and fill it: what no
    chunk fills would stay uninitialised memory, silently."""
    boxes = [c for c in chunks if math.prod(c[1])]
    inside = all(
        len(o) == len(s) == len(shape) and all(a + n <= d for a, n, d in zip(o, s, shape, strict=True))
        for o, s in chunks
    )
    apart = inside and not any(_overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    if not apart or sum(math.prod(s) for _, s in boxes) != math.prod(shape):
        raise ValueError(f"{path}: the chunks of {name} do not cover its shape {shape} exactly once")


def _overlap(a: Chunk, b: Chunk) -> bool:
    return all(x < y + n and y < x + m for x, m, y, n in zip(*a, *b, strict=True))


def torch_metadata(tensors: dict[str, Stored]) -> Metadata:
    """Torch's own records of vetted tensors, for its planner and reader."""
    entries: dict[str, Any] = {}
    storage: dict[MetadataIndex, _StorageInfo] = {}
    for name, stored in tensors.items():
        chunks = [ChunkStorageMetadata(torch.Size(o), torch.Size(s)) for o, s in stored.places]
        properties = TensorProperties(dtype=stored.dtype)
        entries[name] = TensorStorageMetadata(properties, torch.Size(stored.shape), chunks)
        for (offsets, _), place in stored.places.items():
            storage[MetadataIndex(name, offsets)] = _StorageInfo(*place)
    return Metadata(entries, storage_data=storage, storage_meta=StorageMeta())
