"""W&B as a mirror of the rows: they are on disk before anything here happens, and no failure here is one
of the benchmark.

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llada_exp.bench.client import LoadResult
from llada_exp.bench.rows import read_jsonl, request_row
from llada_exp.bench.settings import Tracking

DEFAULT_URL = "https://api.wandb.ai"
LATENCIES = ("ttft_ms", "tpot_ms", "e2el_ms")
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


def track(
    tracking: Tracking,
    folder: Path,
    row: Mapping[str, Any],
    results: Sequence[LoadResult],
    config: Mapping[str, Any],
) -> None:
    """Mirror one finished point into <folder>/wandb."""
    if tracking.mode == "disabled":
        return
    try:
        shutil.rmtree(folder / "wandb", ignore_errors=True)  # of an earlier run of this very point
        run = _write(tracking, folder, row, results, config)
        if tracking.mode == "online":
            _upload(run)
    except Exception as error:  # whatever wandb raises
        _warn(f"W&B has failed ({type(error).__name__}: {error}); the rows are in {folder}")


def _write(
    tracking: Tracking,
    folder: Path,
    row: Mapping[str, Any],
    results: Sequence[LoadResult],
    config: Mapping[str, Any],
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
        job_type="bench",
        name=row["point"],
        dir=str(folder),
        config={**config, "row": dict(row)},
        settings=quiet,
    ) as run:
        records = [(repeat, r) for repeat, result in enumerate(results) for r in result.records]
        logged: dict[str, Any] = {"throughput_latency": wandb.Image(str(_image(folder, row)))}
        for name in LATENCIES:
            values = [v for _, r in records if (v := getattr(r, name)) is not None]
            if values:
                logged[f"histogram/{name}"] = wandb.Histogram(values)
        logged["requests"] = _table(wandb, records, tracking.log_text)
        run.log(logged)
        run.summary.update({name: value for name, value in row.items() if value is not None})
        return Path(run.dir).parent


def _table(wandb: Any, records: Sequence[tuple[int, Any]], log_text: bool) -> Any:
    lines = [request_row(record, repeat) for repeat, record in records]
    names = [name for name in lines[0] if name not in ("itl_ms", "error")]
    data = [[line[name] for name in names] for line in lines]
    if log_text:
        names += ["prompt", "answer"]
        data = [[*d, r.prompt, r.text] for d, (_, r) in zip(data, records, strict=True)]
    return wandb.Table(columns=names, data=data)


def _image(folder: Path, row: Mapping[str, Any]) -> Path:
    """Throughput against latency: this point among those of its sweep that are finished."""
    from llada_exp.bench.plot import throughput_latency

    near = [r for path in folder.parent.glob("*/row.jsonl") for r in read_jsonl(path)]
    others = [r for r in near if r["sweep"] == row["sweep"] and r["point"] != row["point"]]
    path = folder / "throughput_latency.png"
    throughput_latency(others, row).savefig(path, dpi=150)
    return path


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
        said = (done.stderr or done.stdout).strip().splitlines()
        _warn(f"wandb sync has failed ({said[-1] if said else 'no word'}); again: wandb sync {run}")


def _base_url() -> str:
    return os.environ.get("WANDB_BASE_URL", DEFAULT_URL).rstrip("/")


def _has_key() -> bool:
    """In the environment, or where `wandb login` puts it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        found = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return found.authenticators(urlsplit(_base_url()).hostname or "") is not None


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
