"""A Hugging Face folder (config.json, safetensors, tokenizer) into the network of its family.

Weights are read tensor by tensor into a model that is already in its place and dtype, so that the
host needs the resident model and, at most, the pages of one shard. No remote code, no pickle: .bin
and .pt files are refused. Every check is made before the first weight is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from llada_exp.checkpoints.common import (
    FLOAT_KINDS,
    FamilySettings,
    Shape,
    StoredShape,
    compare_tensors,
    expected_tensors,
    read_config,
    read_json,
    read_tokenizer,
    some,
)
from llada_exp.checkpoints.explain import (
    INDEX,
    SHARD,
    SINGLE,
    broken_file,
    folder_contents,
    listed,
    missing_folder,
    two_sets,
)
from llada_exp.checkpoints.special import special_ids
from llada_exp.checkpoints.sums import SUMS
from llada_exp.checkpoints.vetted import Filled, Vetted

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SMALL_FILES = ("*.json", "*.jinja")
"""What a folder holds beside its weights: configuration and tokenizer."""
_HUB_FILES = ("*.safetensors", *SMALL_FILES)


def vet_hf(folder: Path, settings: FamilySettings | None = None) -> Vetted:
    """Everything that can be known of a local folder without reading a weight.

    settings: of its family, beside config.json.

    Raises ValueError naming the file, what was found and what was expected.
    """
    config = read_config(folder, settings)
    tokenizer = read_tokenizer(folder)
    special = special_ids(config, tokenizer, [folder], str(folder))
    places = locate_tensors(folder)
    compare_tensors(folder, expected_tensors(config.architecture), places)
    listed = folder if (folder / SUMS).is_file() else None
    return Vetted(folder, config, tokenizer, special, places, partial(read_tensors, places), listed)


def load_hf(
    source: str | Path, device: torch.device, dtype: torch.dtype, settings: FamilySettings | None = None
) -> Filled:
    """Read a local folder, or a hub id, into a network on `device` in `dtype`.

    Raises ValueError naming the file, what was found and what was expected.
    """
    return vet_hf(resolve_folder(source), settings).load(device, dtype)


def resolve_folder(source: str | Path, files: Sequence[str] = _HUB_FILES) -> Path:
    """The local folder of `source`; of a hub id, these files are fetched first. Raises ValueError."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if os.path.lexists(path) or not _HUB_ID.fullmatch(str(source)):
        raise ValueError(missing_folder(path))
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), allow_patterns=list(files)))
    except Exception as error:  # the client's errors have no common base: network, http, cache, names
        reason = str(error).strip().splitlines()[:1]
        raise ValueError(
            f"{source}: neither a local folder nor reachable as a hub id: {''.join(reason)}"
        ) from error


def locate_tensors(folder: Path) -> dict[str, StoredShape]:
    """Tensor name -> its file and shape, from the headers alone. Raises ValueError as `load_hf`, also where
    the folder's files name two sets of weights: transformers takes the single file, vLLM what the index
    names, and one of the two is an accident."""
    names = {path.name for path in folder.iterdir()}
    if "adapter_config.json" in names:
        raise ValueError(f"{folder}: holds a LoRA adapter; expected whole weights: merge it into its base")
    shards = {name for name in names if SHARD.fullmatch(name)}
    if names & {SINGLE, INDEX} and (others := {n for n in names if n.endswith(".distcp")}):
        raise two_sets(folder, names & {SINGLE, INDEX}, others)
    if INDEX in names:
        weight_map = _weight_map(folder / INDEX)
        if others := ({SINGLE} & names | shards) - set(weight_map.values()):
            raise two_sets(folder, [f"{INDEX} with {listed(set(weight_map.values()))}"], others)
        return _locate_shards(folder, weight_map)
    if SINGLE in names:
        if shards:
            raise two_sets(folder, [SINGLE], shards)
        return {name: (folder / SINGLE, shape) for name, shape in read_header(folder / SINGLE).items()}
    if shards:
        raise ValueError(f"{folder / INDEX}: no such file; {folder} holds {listed(shards)}: copy it, too")
    pickles = [name for name in names if Path(name).suffix in (".bin", ".pt", ".pth", ".ckpt")]
    if pickles:
        raise ValueError(
            f"{folder}: holds {some(pickles)}, which are pickles and can run code; expected {SINGLE}, "
            f"or shards with {INDEX}: convert to safetensors"
        )
    contents = folder_contents(folder)
    raise ValueError(f"{folder}: expected {SINGLE}, or shards with {INDEX}; found neither: {contents}")


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise ValueError(f"{index}: weight_map is missing or malformed; expected tensor names to file names")
    for name in weight_map.values():
        if Path(name).name != name or Path(name).suffix != ".safetensors":
            raise ValueError(f"{index}: names {name!r}; expected safetensors files beside it")
    return weight_map


def _locate_shards(folder: Path, weight_map: dict[str, str]) -> dict[str, StoredShape]:
    places: dict[str, StoredShape] = {}
    shards = set(weight_map.values())
    if missing := [shard for shard in shards if not os.path.lexists(folder / shard)]:
        which = f"{len(missing)} of its {len(shards)} files are missing: {listed(missing)}"
        raise ValueError(f"{folder / min(missing)}: no such file; {INDEX} expects this shard ({which})")
    for shard in sorted(shards):
        path = folder / shard
        shapes = read_header(path)
        names = {name for name, file in weight_map.items() if file == shard}
        if names != shapes.keys():
            raise ValueError(
                f"{path}: missing: {some(names - shapes.keys())}; not expected: "
                f"{some(shapes.keys() - names)} (by {INDEX})"
            )
        places.update({name: (path, shape) for name, shape in shapes.items()})
    return places


def read_header(path: Path) -> dict[str, Shape]:
    """Tensor name -> shape. Raises ValueError for a broken or half-written file and for tensors that
    are not floating point."""
    shapes = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                tensor = file.get_slice(name)
                if tensor.get_dtype() not in FLOAT_KINDS:
                    raise ValueError(
                        f"{path}: {name} is {tensor.get_dtype()}; expected one of {', '.join(FLOAT_KINDS)}"
                    )
                shapes[name] = tuple(tensor.get_shape())
    except (SafetensorError, OSError) as error:
        reason = broken_file(path) or f"not a whole safetensors file (half-written?): {error}"
        raise ValueError(f"{path}: {reason}") from error
    return shapes


@torch.no_grad()
def read_tensors(places: dict[str, StoredShape], targets: dict[str, torch.Tensor]) -> None:
    """Copy every tensor into the target of its name, file by file, cast on the way."""
    for path in sorted({path for path, _ in places.values()}):
        with safe_open(path, framework="pt") as file:
            for name in (n for n, (p, _) in places.items() if p == path):
                targets[name].copy_(file.get_tensor(name))
