"""Clients that are too heavy for our own environment: each in a virtual environment of its own.

Environments are made once, in LLADA_CLIENTS_CACHE or the user's cache folder, from the list below, and
made anew when their line changes. Run by `pytest -m clients tests/clients`.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llada_exp.jobs import running_server

HERE = Path(__file__).parent
WEIGHTS = Path(__file__).parents[2] / "llada_exp" / "tiny" / "weights"
ENVIRONMENTS = {
    "litellm": ["litellm==1.110.2"],
    "lm_eval": ["lm-eval[api]==0.4.13", "transformers>=5"],
    "guidellm": ["guidellm==0.8.1", "torch==2.13.0"],
    "aiperf": ["aiperf==0.13.0"],
    "vllm_router": ["vllm-router==0.1.17"],
}
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


def cache() -> Path:
    place = os.environ.get("LLADA_CLIENTS_CACHE")
    return Path(place) if place else Path.home() / ".cache" / "llada_exp" / "clients"


def environment(name: str) -> Path:
    """The folder of the client's programs; made where it is not there whole."""
    requirements = ENVIRONMENTS[name]
    key = hashlib.sha256(" ".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = cache() / f"{name}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        whole = folder / "whole"
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            pip = [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run([*pip, *requirements], check=True)
            whole.touch()
    return folder / "bin"


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
