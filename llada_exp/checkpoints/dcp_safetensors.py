"""DCP weights in safetensors: each process's shards, or a whole Hugging Face set of files.

Where processes saved their own shards, each file's header tells at which offsets its pieces lie
(torch's HuggingFaceStorageWriter). No pickle anywhere. Knows no model.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open

from llada_exp.checkpoints.common import Shape, StoredShape
from llada_exp.checkpoints.dcp_metadata import Chunk, Stored, check_cover
from llada_exp.checkpoints.explain import INDEX, SINGLE, give, listed
from llada_exp.checkpoints.hf import locate_tensors, read_header

_SHARDING = "DCP_SHARDING_INFO"


def locate_chunks(folder: Path) -> dict[str, Stored]:
    """Tensor name -> shape and chunks, from the headers alone. Raises ValueError naming the file for
    a broken one, and the tensor for chunks that do not cover it."""
    files = sorted(folder.glob("*.safetensors"))
    offsets = {file: _offsets(file, read_header(file)) for file in files}
    bare = [file.name for file in files if not offsets[file]]
    if len(bare) == len(files):
        whole = _locate_whole(folder, bare)
        return {
            name: _stored(shape, {((0,) * len(shape), shape): path}) for name, (path, shape) in whole.items()
        }
    if bare:
        raise ValueError(
            f"{folder}: the headers of {listed(bare)} do not say ({_SHARDING}) which parts of tensors they "
            "hold, and those of the other files do: files of two saves?"
        )
    chunks: dict[str, dict[Chunk, Path]] = {}
    for file in files:
        for name, sizes in read_header(file).items():
            start = offsets[file].get(name, (0,) * len(sizes))
            places = chunks.setdefault(name, {})
            if (start, sizes) in places:
                raise ValueError(f"{file}: {name} at {start} is in {places[start, sizes].name} too")
            places[start, sizes] = file
    stored = {}
    for name, places in chunks.items():
        ends = ([o + n for o, n in zip(*chunk, strict=True)] for chunk in places)
        shape = tuple(map(max, zip(*ends, strict=True)))
        check_cover(folder, name, shape, list(places))
        stored[name] = _stored(shape, places)
    return stored


def _locate_whole(folder: Path, files: list[str]) -> dict[str, StoredShape]:
    """Of files that hold whole tensors, as Hugging Face names them. Raises ValueError."""
    if (folder / INDEX).exists() or SINGLE in files:
        return locate_tensors(folder)
    if (whole := folder / "consolidated").is_dir():
        raise ValueError(f"{folder}: its shards do not say what they hold; give {give(whole)}")
    raise ValueError(
        f"{folder}: the headers of {listed(files)} do not say ({_SHARDING}) which parts they hold, "
        f"and no {INDEX} says that they are whole: copy the index, too, or save with torch's "
        "HuggingFaceStorageWriter(save_distributed=True), or as .distcp files"
    )


def read_chunks(folder: Path, stored: dict[str, Stored], targets: dict[str, torch.Tensor]) -> None:
    """Fill `targets` in place, file by file, cast on the way."""
    by_file: dict[str, list[tuple[str, Chunk]]] = {}
    for name, tensor in stored.items():
        for chunk, (file, _, _) in tensor.places.items():
            by_file.setdefault(file, []).append((name, chunk))
    for file, parts in sorted(by_file.items()):
        with safe_open(folder / file, framework="pt") as opened:
            for name, (starts, sizes) in parts:
                part = tuple(slice(o, o + n) for o, n in zip(starts, sizes, strict=True))
                targets[name][part].copy_(opened.get_tensor(name))


def _offsets(file: Path, header: dict[str, Shape]) -> dict[str, Shape]:
    """Tensor name -> offsets of the file's piece, where the file says so."""
    with safe_open(file, framework="pt") as opened:
        raw = (opened.metadata() or {}).get(_SHARDING)
    if raw is None:
        return {}
    try:
        offsets = {name: tuple(map(int, entry["saved_offsets"])) for name, entry in json.loads(raw).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{file}: its header's {_SHARDING} is malformed: {error!r}") from error
    if offsets.keys() != header.keys() or any(len(offsets[n]) != len(header[n]) for n in header):
        raise ValueError(f"{file}: its header's {_SHARDING} does not fit its tensors")
    return offsets


def _stored(shape: Shape, places: dict[Chunk, Path]) -> Stored:
    return Stored(shape, torch.float32, {chunk: (path.name, 0, 0) for chunk, path in places.items()})
