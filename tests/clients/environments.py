"""`python3 tests/clients/environments.py`: the virtual environments of tests/clients, ahead of the tests.

Each is made once, in LLADA_CLIENTS_CACHE or the user's cache folder, from the list below, and made anew when
its line changes; whoever comes while it is made waits. Standard library only: it runs before ours is there.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ENVIRONMENTS = {
    "litellm": ["litellm==1.110.2"],
    "lm_eval": ["lm-eval[api]==0.4.13", "transformers>=5"],
    "guidellm": ["guidellm==0.8.1", "torch==2.13.0"],
    "aiperf": ["aiperf==0.13.0"],
    "vllm_router": ["vllm-router==0.1.17"],
}


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


if __name__ == "__main__":
    for each in ENVIRONMENTS:
        environment(each)
