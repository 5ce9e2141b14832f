"""Whether a checkpoint is whole, without loading it: what a sweep asks of each before any is evaluated.

The checks are the loaders' own. Of weights only headers, sizes and `.metadata` are read, so that a folder
of any size takes seconds; a byte that flipped inside a weight shows only when it is loaded, by a SHA256SUMS.
"""

from __future__ import annotations

from pathlib import Path

from llada_exp.checkpoints.common import FamilySettings
from llada_exp.checkpoints.explain import INDEX, SINGLE
from llada_exp.checkpoints.hf import vet_hf

_INNER = ("policy", "weights", "model")
_SHARDS = (".distcp", ".safetensors")


def inspect(path: str | Path, base: str | Path | None = None, settings: FamilySettings | None = None) -> None:
    """Returns where `load_model` would load the local folder at `path`; else raises its ValueError.

    base: of a DCP folder: folder or hub id of configuration and tokenizer, where the run has none.
    settings: of the model's family, beside config.json.
    """
    folder = Path(path).expanduser()
    if kind_of(folder) == "dcp":
        from llada_exp.checkpoints.dcp import vet_dcp

        vet_dcp(folder, base, settings)
    elif base is not None:
        raise ValueError(f"base is {str(base)!r}; {folder} is a Hugging Face folder, which takes none")
    else:
        vet_hf(folder, settings)


def kind_of(folder: Path) -> str:
    """The `source` that loads this folder: "hf", where a config.json lies beside weights in Hugging Face's
    file names (or beside none), else "dcp". Not whether it is whole."""
    if not (folder / "config.json").is_file() or any((folder / name).is_dir() for name in _INNER):
        return "dcp"
    if any((folder / name).is_file() for name in (SINGLE, INDEX)):
        return "hf"
    return "dcp" if any(p.name == ".metadata" or p.suffix in _SHARDS for p in folder.iterdir()) else "hf"
