"""Whom an evaluation asks: endpoints that run already, those of SLURM jobs among them, or a server of its
own."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llada_exp.clients.http import environment_key
from llada_exp.clients.pool import Pool, to_stderr
from llada_exp.evals.evaluation import JOB, EvalSettings
from llada_exp.jobs import ServerHandle, operate
from llada_exp.jobs.endpoint import PublishedEndpoint, find, folder
from llada_exp.runs.files import write_whole
from llada_exp.runs.servers import endpoint, served_model

MODEL = "model.json"
LOOK_S = 10.0
"""Between looks at SLURM's queue."""


@dataclass(frozen=True)
class Target:
    """urls: without /v1; model: the name that all of them serve; keys: of each; handle: of an own server;
    gone: why none of them will answer any more, None while one may."""

    urls: tuple[str, ...]
    model: str
    keys: Mapping[str, str | None] = field(default_factory=dict)
    handle: ServerHandle | None = None
    gone: Callable[[], str | None] = lambda: None

    def pool(self, settings: EvalSettings) -> Pool:
        """Of its URLs, to ask many requests (`request_loop.py`); for one run of an event loop."""
        return Pool(
            self.urls,
            key=self.keys,
            timeout_s=settings.timeout,
            max_retries=settings.max_retries,
            patience_s=settings.patience,
            alive=self.alive,
        )

    def alive(self) -> str | None:
        """Asked often, and quick: None, or the reason to give up."""
        return self.gone() if self.handle is None else self.handle.ended()


@contextlib.contextmanager
def target(settings: EvalSettings, place: Path) -> Iterator[Target]:
    """Raises RuntimeError where no URL answers or a job is over, ValueError where they serve different
    models or there is no such endpoint."""
    key = environment_key()
    if not settings.urls:
        with endpoint(None, settings.server_tree, place) as server:
            assert server.model is not None
            yield Target((server.url,), server.model, {server.url: key}, server.handle)
        return
    with _endpoints(settings, key) as running:
        _same_model(place, running.model)
        yield running


def _same_model(place: Path, model: str) -> None:
    """Raises ValueError where answers of another model are in the folder: its settings do not name it."""
    path = place / MODEL
    before = json.loads(path.read_text())["model"] if path.is_file() else model
    if before != model:
        raise ValueError(f"url serves {model!r}; {place} was begun with {before!r}: expected another expname")
    write_whole(path, json.dumps({"model": model}) + "\n")


@contextlib.contextmanager
def _endpoints(settings: EvalSettings, key: str | None) -> Iterator[Target]:
    chosen = [one for url in settings.urls for one in _jobs_of(url)]
    jobs = {one: _of_job(one.removeprefix(JOB), settings.patience) for one in chosen if one.startswith(JOB)}
    keys = {jobs[u].info["url"] if u in jobs else u: jobs[u].key if u in jobs else key for u in chosen}
    urls = tuple(keys)
    only_jobs = list(jobs.values()) if len(jobs) == len(urls) else []
    with _watching(only_jobs) as gone:
        yield Target(urls, _common_model(keys), keys, gone=gone)


def _jobs_of(url: str) -> list[str]:
    """Of an array (job:12) its jobs, job:12_0 ...; else what it is. Raises SlurmError."""
    name = url.removeprefix(JOB)
    if name == url or name.endswith(".json"):
        return [url]
    return [f"{JOB}{job_id}" for job_id in operate.tasks(name, folder())]


def _of_job(name: str, patience_s: float) -> PublishedEndpoint:
    """Once it answers as itself. Raises NotReady."""
    if name.endswith(".json"):
        name, place = find(name).job_id, Path(name).parent
    else:
        place = folder()
    return operate.wait_ready(name, place, max(patience_s, LOOK_S))


@contextlib.contextmanager
def _watching(jobs: Sequence[PublishedEndpoint]) -> Iterator[Callable[[], str | None]]:
    """Looks at the queue from a thread of its own, since squeue may take its time; yields what to ask."""
    over: dict[str, str] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOK_S):
            states = operate.states([job.job_id for job in jobs])
            over.update({i: state for i, state in states.items() if operate.has_ended(state)})

    def gone() -> str | None:
        if not jobs or len(over) < len(jobs):
            return None
        return "; ".join(f"job {i} is over ({state})" for i, state in over.items())

    if jobs:
        threading.Thread(target=look, daemon=True, name="queue").start()
    try:
        yield gone
    finally:
        done.set()


def _common_model(keys: Mapping[str, str | None]) -> str:
    names: dict[str, str] = {}
    for url, key in keys.items():
        try:
            names[url] = served_model(url, key) or ""
        except RuntimeError as error:
            if len(keys) == 1:
                raise
            to_stderr(f"warning: {error}; the problems go to the others")
    if not names:
        raise RuntimeError(f"none of {', '.join(keys)} answers")
    if len(set(names.values())) > 1:
        raise ValueError(f"url names endpoints of different models: {json.dumps(names)}")
    return next(iter(names.values()))
