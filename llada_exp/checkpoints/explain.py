"""Why a file or folder cannot be used, in words that help: what it is instead, and what to give or run.

Looks at names, links, sizes and first bytes; knows no configuration, network or loader.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-(\d+)-of-(\d+)\.safetensors")
_STEP = re.compile(r"(?!tmp)[A-Za-z_-]*?\d+")
_LFS = b"version https://git-lfs.github.com/spec/"
_INSIDE = (".", "policy", "policy/weights", "policy/weights/model", "weights", "weights/model", "model")
_NUM_LISTED = 6


def natural(name: object) -> list[tuple[int, int, str]]:
    """A key that sorts names by the numbers in them: step_9 before step_10."""
    pieces = re.split(r"(\d+)", str(name))
    return [(1, int(p), "") if i % 2 else (0, 0, p) for i, p in enumerate(pieces)]


def listed(names: Iterable[object], most: int = _NUM_LISTED) -> str:
    """The first of the names, by their numbers, and how many more there are."""
    words = [str(name) for name in sorted(names, key=natural)]
    return ", ".join(words[:most]) + f" and {len(words) - most} more" * (len(words) > most)


def broken_file(path: Path) -> str | None:
    """What a file is that cannot be read as what its name says; None where nothing plain explains it."""
    if path.is_symlink() and not path.exists():
        return (
            f"a link to {os.readlink(path)}, where nothing is: copy the folder with its links followed "
            "(cp -rL), or fetch the file again"
        )
    if path.is_dir():
        return "a folder; expected a file"
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except PermissionError:
        return f"not readable by this user: permission denied (try: chmod u+r {path})"
    except OSError:
        return None
    if start == _LFS:
        return f"a pointer of Git LFS, not the file itself: run `git lfs pull` in {path.parent}"
    if not start:
        return "empty (half-written?): copy or save it again; was the disk full?"
    if start.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        return "a web page, not the file itself: download it again"
    return _short(path)


def _short(path: Path) -> str | None:
    """Of a safetensors file that ends before what its header names."""
    if path.suffix != ".safetensors":
        return None
    import json

    size = path.stat().st_size
    with path.open("rb") as file:
        num_header = int.from_bytes(file.read(8), "little")
        if size < 8 or (num_header > size - 8 and file.read(1) == b"{"):
            return f"truncated (half-written?): it has {size} bytes, fewer than its header: copy it again"
        if num_header > size - 8:
            return None
        file.seek(8)
        try:
            header = json.loads(file.read(num_header))
            end = max((entry["data_offsets"][1] for n, entry in header.items() if n[:2] != "__"), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            return None
    whole = 8 + num_header + end
    if size < whole:
        return f"truncated (half-written?): it has {size} bytes of {whole} by its header: copy it again"
    return None


def missing_folder(path: Path) -> str:
    """Of a path at which there is no folder."""
    if path.is_symlink() and not path.exists():
        return f"{path}: a link to {os.readlink(path)}, where nothing is"
    if path.exists():
        return f"{path}: is a file; expected the folder that holds it: {path.parent}"
    parent = next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())
    try:
        folders = [entry.name for entry in parent.iterdir() if entry.is_dir()]
    except OSError:
        folders = []
    return f"{path}: no such folder" + (f"; {parent} holds {listed(folders)}" if folders else "")


def folder_contents(folder: Path, is_dcp: bool = False) -> str:
    """What a folder is in which something is missing, and what to give instead. is_dcp: it was to be a
    torch.distributed.checkpoint folder."""
    try:
        entries = list(folder.iterdir())
    except PermissionError:
        return f"permission denied: this user may not list {folder}"
    names = {entry.name for entry in entries}
    steps = [e for e in entries if e.is_dir() and not e.is_symlink() and _STEP.fullmatch(e.name)]
    steps = sorted((step for step in steps if _weights_in(step)), key=lambda step: natural(step.name))
    if steps:
        which = "step" if len(steps) == 1 else f"{len(steps)} steps ({listed(s.name for s in steps)})"
        newest = steps[-1]
        return f"{folder} holds {which} of a training run; expected one: the newest is {give(newest)}"
    if snapshots := sorted((folder / "snapshots").glob("*/config.json"), key=os.path.getmtime):
        return f"{folder} is a hub cache; its snapshot is {give(snapshots[-1].parent)}"
    if _weights_in(folder / "consolidated"):
        return f"{folder} holds a folder consolidated: give {give(folder / 'consolidated')}"
    if not is_dcp and (inner := _weights_in(folder)) == "dcp":
        return f"{folder} is a torch.distributed.checkpoint folder: give {give(folder)}"
    if not is_dcp and inner and not (folder / "config.json").is_file():
        return f"{folder} holds weights without a config.json: {listed(names)}"
    return f"{folder} holds {listed(names)}" if names else f"{folder} is empty"


def give(folder: Path) -> str:
    """The words of a command line that load this folder."""
    is_whole = (folder / "config.json").is_file() and any((folder / n).is_file() for n in (SINGLE, INDEX))
    return f"model={'hf' if is_whole else 'dcp'} model.path={folder}"


def _weights_in(folder: Path) -> str | None:
    """The kind of weights in a folder, or inside it where a training run puts them: hf, dcp, or None."""
    for inner in (folder / part for part in _INSIDE):
        if (inner / ".metadata").is_file() or any(inner.glob("*.distcp")):
            return "dcp"
        if any(inner.glob("*.safetensors")):
            return "hf" if inner == folder else "dcp"
    return None


def two_sets(folder: Path, one: Iterable[str], other: Iterable[str]) -> ValueError:
    """The error for a folder whose files are two sets of weights."""
    return ValueError(
        f"{folder}: holds two sets of weights, which may be two models: {listed(one)}; and {listed(other)}. "
        "Move the set that is not meant out of the folder"
    )
