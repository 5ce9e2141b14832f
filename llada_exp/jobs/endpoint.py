"""Servers that run as SLURM jobs: where each is, published as one file per job in a shared folder.

    FOLDER/12.json   where the server of job 12 is, written by the server once it answers
    FOLDER/12.key    the key that its clients send (mode 600)
    FOLDER/13_0.json FOLDER/13_1.json FOLDER/13.key   of an array of replicas, which have one key

The server's side is `published`, the reader's `PublishedEndpoint`. Knows files and HTTP, nothing of SLURM's
queue.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llada_exp.clients.http import HEALTH_S, health
from llada_exp.server.announcement import curl_line, job_id_of
from llada_exp.settings import ServeSettings

FOLDER_VARIABLE = "LLADA_ENDPOINTS"
DEFAULT_FOLDER = "~/.llada_exp/endpoints"
NODE = "node"
ARRAY_VARIABLE = "SLURM_ARRAY_JOB_ID"


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    return Path(environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER).expanduser()


def published(
    settings: ServeSettings, environ: Mapping[str, str] = os.environ, replicas: int = 1
) -> ServeSettings:
    """The settings of a server that publishes itself: the node's address, its file, and a fresh key
    where no key file is configured: where there are `replicas`, that of their array, which the first of them
    makes. Unchanged where `endpoint` is null.

    Raises ValueError outside of a SLURM job, for replicas outside of an array, and for a folder that cannot
    be written.
    """
    if replicas > 1 and not environ.get(ARRAY_VARIABLE):
        raise ValueError(
            f"replicas is {replicas}; expected 1 here: more are an array of jobs (-m hydra/launcher=slurm"
            f" replicas={replicas})"
        )
    if settings.host == NODE:
        settings = replace(settings, host=_node_address(environ))
    if settings.endpoint is None:
        return settings
    job_id = job_id_of(environ)
    if job_id is None:
        raise ValueError(
            f"endpoint is {settings.endpoint!r}; it needs a SLURM job: -m hydra/launcher=slurm, or sbatch"
            " slurm/server.sbatch"
        )
    base = Path(settings.endpoint).expanduser().absolute()
    owner = environ[ARRAY_VARIABLE] if replicas > 1 else job_id
    key_file = settings.api_key_file or str(base / f"{owner}.key")
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        if settings.api_key_file is None:
            write_key(key_file, shared=replicas > 1)
    except OSError as error:
        raise ValueError(f"endpoint is {settings.endpoint!r}; {error.strerror}: {error.filename}") from None
    info = settings.server_info or str(base / f"{job_id}.json")
    return replace(settings, server_info=info, api_key_file=key_file)


def write_key(path: str | Path, shared: bool = False) -> None:
    """A new random key, in a file that nobody else can read at any moment. shared: one that is there stays,
    also where several start at once."""
    draft = Path(f"{path}.{socket.gethostname()}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_urlsafe(32) + "\n")
        if shared:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        else:
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _node_address(environ: Mapping[str, str]) -> str:
    """This machine as the other nodes know it: by SLURM's name for it where that resolves."""
    name = environ.get("SLURMD_NODENAME", "")
    try:
        return name if name and socket.getaddrinfo(name, None) else socket.gethostname()
    except socket.gaierror:
        return socket.gethostname()


@dataclass(frozen=True)
class PublishedEndpoint:
    """path: its file; info: what the file says."""

    path: Path
    info: Mapping[str, Any]

    @property
    def job_id(self) -> str:
        return str(self.info["job_id"])

    @property
    def key(self) -> str | None:
        """What its clients send as a Bearer token. Raises OSError where the file is not ours to read."""
        name = self.info.get("api_key_file")
        return Path(name).read_text().strip() if name else None

    def health(self) -> str:
        """Its own /health's status; "stopped" by its file; "no answer"; or "another server"."""
        if self.info["status"] == "stopped":
            return "stopped"
        answer = health(self.info["url"], HEALTH_S)
        if not answer:
            return "no answer"
        return answer["status"] if answer.get("instance_id") == self.info["instance_id"] else "another server"

    def directions(self) -> str:
        """How to reach it from outside of the cluster, a line each."""
        lines = [f"tunnel: {self.info['ssh']}", f"then: http://127.0.0.1:{self.info['port']}/v1"]
        key_file = self.info.get("api_key_file")
        return "\n".join(lines + ([f"key: {key_file}"] if key_file else []))

    def sample(self) -> str:
        """A line to paste into a shell of the cluster, with the key, whose answer shows that it works."""
        key_file = self.info.get("api_key_file")
        return curl_line(self.info["url"], f"$(cat {shlex.quote(key_file)})" if key_file else None)


def load(path: Path) -> PublishedEndpoint | None:
    """The endpoint of one file; None where it is gone or is no endpoint's."""
    try:
        info = json.loads(path.read_text())
        return (
            PublishedEndpoint(path, info)
            if info["job_id"] and info["instance_id"] and info["status"]
            else None
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_all(place: Path) -> list[PublishedEndpoint]:
    """Every endpoint of a folder, by age."""
    endpoints = [endpoint for path in place.glob("*.json") if (endpoint := load(path))]
    return sorted(endpoints, key=lambda endpoint: (endpoint.info.get("started", 0), endpoint.job_id))


def tasks_of(array: str, endpoints: Iterable[PublishedEndpoint]) -> list[PublishedEndpoint]:
    """Those of one array of jobs, by their number in it; of 12: 12_0, 12_1 ..."""
    tasks = [endpoint for endpoint in endpoints if endpoint.job_id.startswith(f"{array}_")]
    return sorted(tasks, key=lambda endpoint: (len(endpoint.job_id), endpoint.job_id))


def find(name: str, place: Path | None = None) -> PublishedEndpoint:
    """By job id, or by the path of its file. Raises ValueError that names what there is."""
    place = place or folder()
    endpoint = load(Path(name) if name.endswith(".json") else place / f"{name}.json")
    if endpoint is None:
        there = ", ".join(e.job_id for e in load_all(place)) or "none"
        raise ValueError(f"no endpoint {name!r} in {place}; there are: {there}")
    return endpoint
