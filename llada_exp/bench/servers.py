"""The server of a point: an endpoint that is there already, or one of our own, always stopped.

Inside `sharing()`, points that come one after the other and need the same server share one start.
"""

from __future__ import annotations

import contextlib
import json
import os
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from llada_exp.bench.settings import BenchSettings, server_key, server_overrides
from llada_exp.jobs import ServerHandle, running_server


@dataclass(frozen=True)
class Endpoint:
    """local: a server of our own on this host, whose processes can be looked at."""

    url: str
    local: bool
    model: str | None
    log: Path | None = None


class _Shared:
    """At most one running server, and what it was started with."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.stack = ExitStack()
        self.handle: ServerHandle | None = None

    def get(self, settings: BenchSettings, folder: Path) -> ServerHandle:
        alive = self.handle is not None and self.handle.process.poll() is None
        if not alive or self.key != server_key(settings):
            self.close()
            self.handle = self.stack.enter_context(_own(settings, folder))
            self.key = server_key(settings)
        assert self.handle is not None
        return self.handle

    def close(self) -> None:
        self.key = self.handle = None
        self.stack.close()


_shared: ContextVar[_Shared | None] = ContextVar("shared server", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Points run inside share servers; the last one is stopped at the end."""
    shared = _Shared()
    token = _shared.set(shared)
    try:
        yield
    finally:
        _shared.reset(token)
        shared.close()


@contextmanager
def endpoint(settings: BenchSettings, folder: Path) -> Iterator[Endpoint]:
    """What a point is measured against. A failure in the block stops a shared server too, so that the
    next point starts from a clean one."""
    if settings.url is not None:
        yield Endpoint(settings.url, False, _served_model(settings.url))
        return
    shared = _shared.get()
    if shared is None:
        with _own(settings, folder) as handle:
            yield _of(handle)
        return
    try:
        yield _of(shared.get(settings, folder))
    except BaseException:
        shared.close()
        raise


def _own(settings: BenchSettings, folder: Path) -> contextlib.AbstractContextManager[ServerHandle]:
    overrides = server_overrides(settings.server_tree)
    # Hydra's variable is ours by now, and would make the server print tracebacks for mistakes.
    return running_server(overrides, folder=folder / "server", env={"HYDRA_FULL_ERROR": "0"})


def _of(handle: ServerHandle) -> Endpoint:
    return Endpoint(handle.url, True, handle.info.get("model"), handle.log)


def _served_model(url: str) -> str | None:
    """The first model that an endpoint lists. Raises RuntimeError where nothing answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    key = os.environ.get("LLADA_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with opener.open(urllib.request.Request(f"{url}/v1/models", headers=headers), timeout=30) as answer:
            return json.load(answer)["data"][0]["id"]
    except (OSError, ValueError, LookupError) as error:
        raise RuntimeError(f"url is {url}; no list of models came from there ({error})") from None
