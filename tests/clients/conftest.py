"""Clients that are too heavy for our own environment: each in a virtual environment of its own, which
environments.py makes. Run by `pytest -m clients tests/clients`.
"""

import os
import subprocess
from pathlib import Path

import pytest

from llada_exp.jobs import running_server

HERE = Path(__file__).parent
WEIGHTS = Path(__file__).parents[2] / "llada_exp" / "tiny" / "weights"
OFFLINE = {
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.timeout(1200))  # a slow network, installing


def run(program: Path, *arguments: str, timeout_s: float = 300, **env: str) -> subprocess.CompletedProcess:
    """Runs a client away from our own packages; fails with its output if it fails."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**clean, **OFFLINE, **env},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done


@pytest.fixture(scope="session")
def tiny():
    """The embedded model: its answers can be right."""
    with running_server(["batch_size=8", "decoding=fast", "decoding.block_length=32"]) as handle:
        yield handle
