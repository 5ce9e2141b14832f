"""One way to ask a server over HTTP: its address, the key, errors, and no proxy.

Proxies: whatever `http_proxy` and its kin say, no tool of ours goes through one. Our servers are on this
machine, on a node of its cluster, or at the end of a tunnel; a cluster's proxy reaches none of them, and
`no_proxy` seldom names the nodes. Redirections are not followed: a POST would arrive as a GET, and the
key elsewhere.

Standard library only. Knows HTTP and /health; no pool of servers, no load, no problems.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

KEY_VARIABLE = "LLADA_API_KEY"
TIMEOUT_S = 30.0
HEALTH_S = 5.0
MAX_BODY = 2**20
MAX_ANSWER, MAX_PIECE = 64 * 2**20, 2**16
MAX_SHOWN = 500
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class RequestFailed(RuntimeError):
    """The message is `URL REASON`. reason: "answers 401: ..." or "does not answer: ..."; status: None where
    nothing answered; body: what the server said."""

    def __init__(self, url: str, reason: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(f"{url} {reason}")
        self.url = url
        self.reason = reason
        self.status = status
        self.body = body


def environment_key(environ: Mapping[str, str] = os.environ) -> str | None:
    """The key that the environment holds; None where it holds none."""
    return environ.get(KEY_VARIABLE, "").strip() or None


def bearer(key: str | None) -> dict[str, str]:
    """The header that carries the key; {} without one."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def base_url(url: Any, key: str = "url") -> str:
    """An address without /v1 and slashes at its end. key: of the setting that holds it. Raises ValueError for
    what is no http(s) address, or holds a password."""
    try:
        parts = urlsplit(url.strip() if isinstance(url, str) else "")
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port  # raises where it is no number
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"{key} is {url!r}; expected http://HOST:PORT")
    if parts.username or parts.password:
        raise ValueError(f"{key} holds a user name or password; the key belongs in {KEY_VARIABLE}")
    return str(url).strip().rstrip("/").removesuffix("/v1").rstrip("/")


def open_url(
    url: str, *, key: str | None = None, body: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S
) -> http.client.HTTPResponse:
    """The open response of a GET, or of a POST of `body` as JSON. Raises RequestFailed."""
    headers = {name: value.encode().decode("latin-1") for name, value in bearer(key).items()}
    data = None
    if body is not None:
        headers["Content-Type"], data = "application/json", json.dumps(body).encode()
    try:
        response: http.client.HTTPResponse = _OPENER.open(
            urllib.request.Request(url, data, headers), timeout=timeout_s
        )
        return response
    except urllib.error.HTTPError as error:
        raise _refused(url, error) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RequestFailed(url, f"does not answer: {_why(error, key)}") from None


def get_json(url: str, *, key: str | None = None, timeout_s: float = TIMEOUT_S) -> Any:
    """What a GET answers. Raises RequestFailed, also where that is no JSON."""
    with open_url(url, key=key, timeout_s=timeout_s) as response:
        return read_json(response, url, timeout_s)


def read_json(response: http.client.HTTPResponse, url: str, timeout_s: float = TIMEOUT_S) -> Any:
    """The JSON of an open response, which may take so long. Raises RequestFailed."""
    try:
        data = _body(response, timeout_s, MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise RequestFailed(url, f"does not answer to its end: {_why(error, None)}") from None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise RequestFailed(url, f"answers no JSON: {data[:80]!r}", response.status, data) from None


def _body(response: Any, timeout_s: float, most: int) -> bytes:
    """As far as `most` bytes. The library's time limit is for each piece, and a body of which one comes now
    and then never ends. Raises TimeoutError, and what the library raises."""
    data, until = bytearray(), time.monotonic() + timeout_s
    while len(data) < most and (piece := response.read1(MAX_PIECE)):
        data += piece
        if time.monotonic() > until:
            raise TimeoutError(f"no whole answer within {timeout_s:g} s")
    if len(data) < most and (missing := response.length):
        raise http.client.IncompleteRead(bytes(data), missing)
    return bytes(data[:most])


def health(url: str, timeout_s: float = HEALTH_S) -> dict[str, Any]:
    """What /health there says, ready or not; {} where nothing answers. It needs no key."""
    try:
        tree = get_json(f"{url}/health", timeout_s=timeout_s)
    except RequestFailed as error:
        tree = None
        with contextlib.suppress(ValueError):
            tree = json.loads(error.body)
    return tree if isinstance(tree, dict) else {}


def no_proxy(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables with which programs of others, too, reach this machine without a proxy."""
    lists = [environ.get(name, "").split(",") for name in ("no_proxy", "NO_PROXY")]
    hosts = [host.strip() for one in lists for host in one if host.strip()]
    value = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
    return {"no_proxy": value, "NO_PROXY": value}


class _NoRedirections(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirections())


def _refused(url: str, error: urllib.error.HTTPError) -> RequestFailed:
    try:
        body = _body(error.fp, TIMEOUT_S, MAX_BODY)
    except (OSError, http.client.HTTPException):
        body = b""
    shown = body[:MAX_SHOWN].decode(errors="replace") or error.headers.get("Location") or error.reason
    return RequestFailed(url, f"answers {error.code}: {shown}", error.code, body)


def _why(error: Exception, key: str | None) -> str:
    """http.client shows a header that it refuses, and the key with it."""
    if key and isinstance(error, ValueError):
        return "the address or the key cannot be sent"
    return str(getattr(error, "reason", None) or error) or type(error).__name__
