"""Whom an evaluation asks: endpoints that run already, or a server of its own."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llada_exp.evals.pool import to_stderr
from llada_exp.evals.settings import EvalSettings
from llada_exp.jobs import ServerHandle
from llada_exp.runs.servers import endpoint, served_model

KEY_VARIABLE = "LLADA_API_KEY"


@dataclass(frozen=True)
class Target:
    """urls: without /v1; model: the name that all of them serve; handle: of an own server."""

    urls: tuple[str, ...]
    model: str
    handle: ServerHandle | None = None

    @property
    def key(self) -> str | None:
        return os.environ.get(KEY_VARIABLE)

    def alive(self) -> str | None:
        """Why an own server will not answer any more; None while it may."""
        if self.handle is None or (code := self.handle.process.poll()) is None:
            return None
        end = "\n".join(self.handle.log.read_text(errors="replace").splitlines()[-10:])
        return f"the server's process ended with exit code {code}; its log ends:\n{end}"


@contextlib.contextmanager
def target(settings: EvalSettings, folder: Path) -> Iterator[Target]:
    """Raises RuntimeError where no URL answers, ValueError where they serve different models."""
    if settings.urls:
        yield Target(settings.urls, _common_model(settings.urls))
        return
    with endpoint(None, settings.server_tree, folder) as own:
        assert own.model is not None
        yield Target((own.url,), own.model, own.handle)


def _common_model(urls: tuple[str, ...]) -> str:
    names: dict[str, str] = {}
    for url in urls:
        try:
            names[url] = served_model(url) or ""
        except RuntimeError as error:
            if len(urls) == 1:
                raise
            to_stderr(f"warning: {error}; the problems go to the others")
    if not names:
        raise RuntimeError(f"none of {', '.join(urls)} answers")
    if len(set(names.values())) > 1:
        raise ValueError(f"url names endpoints of different models: {json.dumps(names)}")
    return next(iter(names.values()))
