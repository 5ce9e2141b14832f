"""SHA256SUMS: a checkpoint's files against the sums that were taken when it was saved.

The other checks see names, shapes and sizes; a byte that flipped in a weight is silent without this. The
file is what `sha256sum` writes, and stands in the step's folder:

    cd step_100 && find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS

Knows files only, nothing of models.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from llada_exp.checkpoints.common import some

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_SKIPPED = "optimizer"  # larger than the weights, and never loaded here
_NUM_THREADS = 4


def check_sums(folder: Path, weights: Path) -> None:
    """Read every file that `folder`/SHA256SUMS lists, but the optimizer's, and compare.

    weights: the folder, at `folder` or inside it, every file of which must be listed.

    Raises ValueError naming the file that differs, is missing or is not listed, or the malformed line.
    """
    sums = _read(folder / SUMS)
    listed = {(folder / name).resolve() for name in sums}
    files = [p for p in weights.iterdir() if p.is_file() and p.name != SUMS]
    if unlisted := [p for p in files if p.resolve() not in listed]:
        raise ValueError(f"{folder / SUMS}: does not list {some(p.name for p in unlisted)} of {weights}")
    names = [n for n in sums if not any(part.startswith(_SKIPPED) for part in PurePosixPath(n).parts)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: no such files: {some(missing)}; {SUMS} lists them")
    for name, digest in zip(names, _hashes(folder / name for name in names), strict=True):
        if digest != sums[name]:
            raise ValueError(
                f"{folder / name}: its SHA-256 is {digest[:12]}..., expected {sums[name][:12]}... by {SUMS}: "
                "changed or damaged since it was saved"
            )


def write_sums(folder: Path) -> None:
    """SHA256SUMS of every file in `folder`, as sha256sum writes it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{d}  ./{p.relative_to(folder).as_posix()}" for p, d in zip(files, _hashes(files), strict=True)]
    (folder / SUMS).write_text("".join(f"{line}\n" for line in lines))


def _read(path: Path) -> dict[str, str]:
    """Name -> sum. Raises ValueError naming the line."""
    sums = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable: {error}") from error
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        name = PurePosixPath(match[2]) if match else None
        if match is None or name is None or name.is_absolute() or ".." in name.parts:
            raise ValueError(
                f"{path}, line {number}: {line!r}; expected what sha256sum writes: a sum and a file inside"
            )
        sums[str(name)] = match[1]
    return sums


def _hashes(paths: Iterable[Path]) -> list[str]:
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        return list(threads.map(_hash, paths))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
