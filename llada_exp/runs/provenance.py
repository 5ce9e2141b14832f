"""Where a row comes from: versions, commit, host, device, and the command that makes it again."""

from __future__ import annotations

import os
import platform
import shlex
import socket
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from llada_exp.runs.probe import batch_stats, gpu_names

PACKAGES = ("llada_exp", "torch", "transformers", "litserve")


def provenance(program: str, overrides: Sequence[str], url: str | None, local: bool) -> dict[str, Any]:
    """program: bench or evals; overrides: Hydra's, of this point alone. url: of the server; None
    where the model is in this process. Device and torch are the server's, None where it runs elsewhere."""
    commit, dirty = git_state(Path(__file__).parent)
    stats = batch_stats(url) if url is not None and local else {}
    pids = [os.getpid()] if url is None else [worker["pid"] for worker in stats.get("workers", ())]
    return {
        "command": shlex.join(["python", "-m", f"llada_exp.{program}", *overrides]),
        "commit": commit,
        "dirty": dirty,
        "host": socket.gethostname(),
        "device_name": device_name(pids) if local else None,
        "python_version": platform.python_version(),
        **{f"{name}_version": version(name) if local else None for name in PACKAGES},
    }


def device_name(pids: Sequence[int]) -> str:
    """The GPUs in use, or the processor."""
    names = gpu_names(pids)
    if names:
        return names[0] if len(names) == 1 else f"{len(names)} x {names[0]}"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        count = sum(line.startswith("processor") for line in lines)
        return f"{model}, {count} cores"
    except (OSError, StopIteration):
        return platform.machine()


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """The commit that `folder` is checked out from, and whether files differ from it; Nones outside a
    repository."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None
