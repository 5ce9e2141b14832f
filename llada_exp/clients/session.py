"""Many requests at once: aiohttp's session as all our clients open it, with the key and without a proxy
(`clients/http.py` says why)."""

from __future__ import annotations

import aiohttp

from llada_exp.clients.http import bearer


def new_session(
    *,
    key: str | None = None,
    limit: int = 0,
    timeout_s: float | None = None,
    keep_alive: bool = True,
    read_bufsize: int = 2**16,
) -> aiohttp.ClientSession:
    """limit: connections at once, 0 for any number; timeout_s: of a whole exchange, None for none of the
    session's own; keep_alive: a connection serves several requests."""
    return aiohttp.ClientSession(
        headers=bearer(key),
        connector=aiohttp.TCPConnector(limit=limit, force_close=not keep_alive),
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=read_bufsize,
        trust_env=False,
    )
