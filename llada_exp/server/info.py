"""Where the server is: the server-info file, the ready line, and a line to try it with."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SAMPLE_QUESTION = "What is 47 + 8?"


def public_url(host: str, port: int) -> str:
    """The URL others reach us by; a wildcard address becomes this machine's name."""
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def local_url(host: str, port: int) -> str:
    """The URL by which this process reaches itself."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
    return public_url(loopback.get(host, host), port)


def own_health(url: str, timeout_s: float = 5.0) -> dict[str, Any]:
    """What /health there says, ready or not; {} where nothing answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=timeout_s) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with contextlib.suppress(ValueError):
            return json.load(error)
    except (OSError, ValueError):
        pass
    return {}


def write_info(path: str | Path, info: dict[str, Any]) -> None:
    """Write the file whole or not at all: readers may look at any moment."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(info, indent=2) + "\n")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def job_facts(port: int, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What a reader elsewhere needs to reach and to stop a server that runs in a SLURM job; {} outside
    of one. step: null where the server is the batch process itself; ssh: a tunnel through the host
    that the job was submitted from."""
    job_id = job_id_of(environ)
    if job_id is None:
        return {}
    node = environ.get("SLURMD_NODENAME") or socket.gethostname()
    way = f"{environ.get('USER', 'USER')}@{environ.get('SLURM_SUBMIT_HOST', 'LOGIN_NODE')}"
    return {
        "job_id": job_id,
        "step": environ.get("SLURM_STEP_ID"),
        "node": node,
        "ssh": f"ssh -N -L {port}:{node}:{port} {way}",
    }


def job_id_of(environ: Mapping[str, str]) -> str | None:
    """The id of the SLURM job that this environment belongs to, as squeue spells it: 12, or 12_3 in an
    array. None outside of a job."""
    if array := environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{environ['SLURM_ARRAY_TASK_ID']}"
    return environ.get("SLURM_JOB_ID")


def say(text: str) -> None:
    """Write to stdout. A reader that is gone (`... | head -1`) is no reason to stop serving."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or the flush at exit would fail again
        os.close(nowhere)


def curl_line(url: str, question: str, key: str | None = None) -> str:
    """One line for a shell, whose answer shows that the model works. key: what the shell puts the key in
    for; the key itself is not shown."""
    body = json.dumps({"messages": [{"role": "user", "content": question}]})
    sent = f' -H "Authorization: Bearer {key}"' if key else ""
    return (
        f"curl -s {url}/v1/chat/completions{sent} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
