"""Where the embedded model lies: package data, a Hugging Face folder like any other."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def tiny_folder() -> Path:
    """The folder of the embedded model. Raises ValueError where this installation has none."""
    folder = Path(str(resources.files("llada_exp.tiny") / "weights"))
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: the embedded model is missing from this installation")
    return folder
