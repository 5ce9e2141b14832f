"""Checkpoint folders for the tests beside it: whole, sharded, and as two training processes save them."""

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.distributed.checkpoint as dcp

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture
def single() -> Path:
    """A whole checkpoint in one file; not to be written to."""
    return REFERENCE / "llada-random-a"


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[str], Path]:
    """A copy that a test may break: "a" is one file, "b" is sharded."""

    def copy(which: str) -> Path:
        ignore = shutil.ignore_patterns("expected.*")
        return Path(shutil.copytree(REFERENCE / f"llada-random-{which}", tmp_path / which, ignore=ignore))

    return copy


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """What two FSDP2 processes saved, in each format; not to be written to."""
    out = tmp_path_factory.mktemp("saved")
    twin = REFERENCE / "llada-random-a"
    script = Path(__file__).with_name("save_sharded.py")
    subprocess.run([sys.executable, str(script), str(twin), str(out)], check=True)
    return out


@pytest.fixture
def run(saved, single, tmp_path):
    """A training run's step_7 of the first format, without a config of its own; may be broken."""
    step = tmp_path / "step_7"
    shutil.copytree(saved / "v1", step / "policy" / "weights")
    (step / "policy" / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(single / name, step / "policy" / "tokenizer")
    (step / "config.yaml").write_text(f"policy:\n  model_name: {single}\n")
    return step


@pytest.fixture
def save(run):
    """Replaces the run's weights by a state that one process saves."""

    def replace(state):
        folder = run / "policy" / "weights"
        shutil.rmtree(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save(state, checkpoint_id=folder, no_dist=True)

    return replace
