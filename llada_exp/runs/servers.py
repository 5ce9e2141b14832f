"""The server of a run: an endpoint that is there already, or one of our own, always stopped.

Inside `sharing()`, points that come one after the other and need the same server share one start.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from llada_exp import decoding_keys
from llada_exp.clients.http import RequestFailed, environment_key, get_json
from llada_exp.jobs import ServerHandle, running_server
from llada_exp.settings import MODEL_KEYS, ServeSettings, override_value

ServerTree = Mapping[str, Any]
SERVER_KEYS = tuple(f.name for f in dataclass_fields(ServeSettings))
_GROUPS = ("mode", "place")
"""Files of conf/ that hold keys of the server."""
NOT_THE_SERVERS = ("host", "port", "server_info", "endpoint")
"""Keys of the server that are ours to set when we start one."""


@dataclass(frozen=True)
class Endpoint:
    """local: a server of our own on this host, whose processes can be looked at; key: for asking it."""

    url: str
    local: bool
    model: str | None
    handle: ServerHandle | None = None
    key: str | None = None


class _Shared:
    """At most one running server, and what it was started with."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.stack = ExitStack()
        self.handle: ServerHandle | None = None

    def get(self, tree: ServerTree, folder: Path) -> ServerHandle:
        alive = self.handle is not None and self.handle.process.poll() is None
        if not alive or self.key != tree_key(tree):
            self.close()
            self.handle = self.stack.enter_context(_started(tree, folder))
            self.key = tree_key(tree)
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
def endpoint(url: str | None, tree: ServerTree, folder: Path) -> Iterator[Endpoint]:
    """What a run asks: `url`, or without one a server started with `tree`. A failure in the block stops a
    shared server too, so that the next run starts from a clean one."""
    if url is not None:
        key = environment_key()
        yield Endpoint(url, False, served_model(url, key), key=key)
        return
    shared = _shared.get()
    if shared is None:
        with _started(tree, folder) as handle:
            yield _of(handle)
        return
    try:
        yield _of(shared.get(tree, folder))
    except BaseException:
        shared.close()
        raise


def _started(tree: ServerTree, folder: Path) -> contextlib.AbstractContextManager[ServerHandle]:
    overrides = server_overrides(tree)
    # Hydra's variable is ours by now, and would make the server print tracebacks for mistakes.
    return running_server(overrides, folder=folder / "server", env={"HYDRA_FULL_ERROR": "0"})


def _of(handle: ServerHandle) -> Endpoint:
    return Endpoint(handle.url, True, handle.info.get("model"), handle, environment_key())


def served_model(url: str, key: str | None) -> str | None:
    """The first model that an endpoint lists. Raises RuntimeError where nothing answers."""
    try:
        name = get_json(f"{url}/v1/models", key=key)["data"][0]["id"]
    except RequestFailed as error:
        raise RuntimeError(f"url is {url}; no list of models came from there ({error})") from None
    except (LookupError, TypeError):
        raise RuntimeError(f"url is {url}; /v1/models there lists no model") from None
    if name is not None and not isinstance(name, str):
        raise RuntimeError(f"url is {url}; the model that /v1/models lists there is {name!r}, no name")
    return name


def check_requests(fields: Mapping[str, Any], server: ServeSettings | None) -> None:
    """Of the decoding fields that every request of a run names, to a server of our own or (None) to another.
    Raises ValueError naming the key that such a server would refuse, or not use."""
    params = decoding_keys.apply(fields, server.preset if server else None)
    if server is not None and params.num_rows > server.batch_size:
        raise ValueError(
            f"batch_size is {server.batch_size}; decoding.cfg_scale above 0 needs at least 2 rows"
        )


def check_remote(overrides: Sequence[str], urls: Sequence[str], shared: Collection[str] = ()) -> None:
    """Of the words of a command line, for servers that run already. shared: keys of the server that are the
    program's, too. Raises ValueError naming the keys of a server of our own: nothing would use them."""
    keys = [key for word in overrides if (key := _server_key(word)) and key not in shared]
    if urls and keys:
        names = ", ".join(dict.fromkeys(keys))
        are, them = ("are", "them") if len(set(keys)) > 1 else ("is", "it")
        where = "" if any(word.startswith("url=") for word in overrides) else ", by the environment"
        raise ValueError(
            f"{names} {are} of a server of our own, but url is {','.join(urls)}{where}: leave {them} out;"
            " what requests may ask for is decoding.FIELD=VALUE"
        )


def check_experiment(
    tree: ServerTree, plain: Mapping[str, Any], urls: Sequence[str], shared: Collection[str] = ()
) -> None:
    """As `check_remote`, of what an experiment's file sets, by what differs. tree: the server's part of the
    configuration; plain: the program's without the experiment. The model is passed over: a figure says which
    it is of, whoever serves it, and the row has the name of the one that answered."""
    differing = [
        f"{key}.{leaf}" if leaf else key
        for key, value in tree.items()
        if key not in ("model", *shared)
        for leaf, inner in (value.items() if isinstance(value, Mapping) else [("", value)])
        if inner != (plain[key][leaf] if leaf else plain[key])
    ]
    if urls and differing:
        raise ValueError(
            f"experiment sets {', '.join(differing)} of a server of our own, but url is {','.join(urls)}:"
            " leave url out, or name the experiment's other keys yourself"
        )


def _server_key(word: str) -> str | None:
    """The key of a word of a command line, where it is the server's. Fields of requests are not:
    decoding.rule, decoding={rule: klass}."""
    key = word.partition("=")[0].lstrip("+~").partition("@")[0]
    root = key.split(".")[0]
    if root == decoding_keys.DECODING:
        return key if decoding_keys.chooses_preset(word) else None
    return key if root in (*SERVER_KEYS, *_GROUPS) else None


def server_tree(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The server's part of a composed config, without what is ours to set."""
    return {key: cfg[key] for key in SERVER_KEYS if key not in NOT_THE_SERVERS}


def tree_key(tree: ServerTree) -> str:
    """Runs of one key can share one server start."""
    return json.dumps(tree, sort_keys=True)


def server_overrides(tree: ServerTree) -> list[str]:
    """The Hydra overrides that start this very server, every leaf spelt out. A family's settings are added:
    the model that is composed unless another is named may have none of them."""
    overrides: list[str] = []
    for key, value in tree.items():
        if not isinstance(value, Mapping):
            overrides.append(f"{key}={override_value(value)}")
            continue
        for leaf, inner in value.items():
            of_family = key == "model" and leaf not in MODEL_KEYS
            overrides.append(f"{'++' if of_family else ''}{key}.{leaf}={override_value(inner)}")
    return overrides
