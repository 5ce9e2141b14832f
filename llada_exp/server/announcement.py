"""Where the server is: the server-info file, the ready line, and a line to try it with."""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llada_exp.domain import DOMAIN
from llada_exp.settings import ModelSettings

logger = logging.getLogger(__name__)

RETRY_S = 2.0
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


class InfoFile:
    """The server-info file of one server. A disk that is full for it is no reason to stop serving: it is
    written as soon as that is possible. path None: none is wanted."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._unwritten: dict[str, Any] | None = None
        self._retry_at = 0.0

    def write(self, info: dict[str, Any]) -> None:
        if self._path is None:
            return
        try:
            write_info(self._path, info)
            self._unwritten = None
        except OSError as error:
            if self._unwritten is None:
                logger.error("server_info %s cannot be written, will try again: %s", self._path, error)
            self._unwritten, self._retry_at = info, time.monotonic() + RETRY_S

    def retry(self) -> None:
        """Write what could not be written, if it is time to try again."""
        if self._unwritten is not None and time.monotonic() > self._retry_at:
            self.write(self._unwritten)


def memory_words(about: Mapping[str, Any]) -> str:
    """The memory plan of a worker in a few words; about: what it said of its model."""
    memory = about.get("memory")
    if not memory:
        return "unknown"
    mib = {name: f"{value / 2**20:.0f}" for name, value in memory.items() if value is not None}
    of = f" of {mib['device']}" if "device" in mib else ""
    return f"{mib['weights']} + K/V {mib['kv']} + step {mib['largest_step']} = {mib['total']}{of} MiB"


def domain_words(model: ModelSettings) -> str:
    """What the embedded model can do, for the ready line; empty of any other."""
    return f"; knows only {DOMAIN}" if model.source == "tiny" else ""


def curl_line(url: str, key: str | None = None) -> str:
    """One line for a shell, whose answer shows that the model works. key: what the shell puts the key in
    for; the key itself is not shown."""
    body = json.dumps({"messages": [{"role": "user", "content": SAMPLE_QUESTION}]})
    headers = (f' -H "Authorization: Bearer {key}"' if key else "") + " -H 'Content-Type: application/json'"
    return f"curl -s {url}/v1/chat/completions{headers} -d {shlex.quote(body)}"
