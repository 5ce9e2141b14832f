"""W&B as a mirror of the rows: they are on disk before anything here happens, and no failure here is one
of the run.

Every run is written offline first, which needs no network and cannot hang; `online` then uploads it with
`wandb sync`. Secrets never enter: no environment, no command line, no git state; prompts and answers only
where `tracking.log_text` asks for them.
"""

from __future__ import annotations

import netrc
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llada_exp.runs.settings import Tracking

DEFAULT_URL = "https://api.wandb.ai"
REACH_S = 8.0
UPLOAD_S = 180.0


def check(tracking: Tracking) -> None:
    """Before anything is measured. Raises ValueError where `online` has no key; warns, and no more, where
    nothing answers: there may be a network by the time of the upload."""
    if tracking.mode != "online":
        return
    if not _has_key():
        raise ValueError(
            "tracking is online, but there is no W&B key: set WANDB_API_KEY or run `wandb login`, "
            "or use tracking=offline"
        )
    if (why := _unreachable()) is not None:
        _warn(f"W&B does not answer ({why}); runs are written offline")


def mirror(
    tracking: Tracking,
    folder: Path,
    row: Mapping[str, Any],
    job_type: str,
    config: Mapping[str, Any],
    content: Callable[[Any], Mapping[str, Any]],
) -> None:
    """Mirror one finished run into <folder>/wandb. row: its summary, and its `sweep` and `point`;
    content(wandb): what is logged besides: tables, histograms, images."""
    if tracking.mode == "disabled":
        return
    try:
        shutil.rmtree(folder / "wandb", ignore_errors=True)  # of an earlier run of this very point
        run = _write(tracking, folder, row, job_type, config, content)
        if tracking.mode == "online":
            _upload(run)
    except Exception as error:  # whatever wandb raises
        _warn(f"W&B has failed ({type(error).__name__}: {error}); the rows are in {folder}")


def _write(
    tracking: Tracking,
    folder: Path,
    row: Mapping[str, Any],
    job_type: str,
    config: Mapping[str, Any],
    content: Callable[[Any], Mapping[str, Any]],
) -> Path:
    """The folder of the offline run."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    quiet = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
    )
    with wandb.init(
        mode="offline",
        project=tracking.project,
        entity=tracking.entity,
        group=row["sweep"],
        job_type=job_type,
        name=row["point"],
        dir=str(folder),
        config={**config, "row": dict(row)},
        settings=quiet,
    ) as run:
        run.log(dict(content(wandb)))
        run.summary.update({name: value for name, value in row.items() if value is not None})
        return Path(run.dir).parent


def _upload(run: Path) -> None:
    if (why := _unreachable()) is not None:
        _warn(f"W&B does not answer ({why}); upload later: wandb sync {run}")
        return
    command = [sys.executable, "-m", "wandb", "sync", "--yes", str(run)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=UPLOAD_S, check=False)
    except subprocess.TimeoutExpired:
        _warn(f"W&B took longer than {UPLOAD_S:g} s; upload later: wandb sync {run}")
        return
    if done.returncode or not list(run.glob("*.synced")):  # a refused upload exits with 0
        lines = (done.stderr or done.stdout).strip().splitlines()
        _warn(f"wandb sync has failed ({lines[-1] if lines else 'no word'}); again: wandb sync {run}")


def _base_url() -> str:
    return os.environ.get("WANDB_BASE_URL", DEFAULT_URL).rstrip("/")


def _has_key() -> bool:
    """In the environment, or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        keys = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return keys.authenticators(urlsplit(_base_url()).hostname or "") is not None


def _unreachable() -> str | None:
    """Why W&B does not answer; any answer of HTTP will do."""
    try:
        urllib.request.urlopen(_base_url(), timeout=REACH_S).close()
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        return str(getattr(error, "reason", error))
    return None


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)
