"""The key that clients must send, where one is configured.

It comes from a file or from the environment, and is written nowhere: neither into a configuration nor
into a log, nor is it handed on to workers. Knows FastAPI's request, and nothing of routes.
"""

from __future__ import annotations

import os
import secrets
import shlex
from pathlib import Path

from fastapi import Request

from llada_exp.clients.http import KEY_VARIABLE
from llada_exp.server.routes.errors import ApiError

OPEN_PATHS = ("/health",)
"""Asked by launchers and probes that have no key; they tell nothing of requests."""


class KeyCheck:
    """key_file: holds the key; None: the environment does, or nobody is asked for one.

    Raises ValueError naming the setting for a file that cannot be read or holds no key.
    """

    def __init__(self, key_file: str | None) -> None:
        self._key = _from_file(key_file) if key_file else _from_environment()
        self._key_file = key_file

    @property
    def is_set(self) -> bool:
        return bool(self._key)

    @property
    def shell_word(self) -> str | None:
        """What a shell puts the key in for; None where no key is asked for."""
        if not self._key:
            return None
        return (
            f"$(cat {shlex.quote(os.path.abspath(self._key_file))})" if self._key_file else f"${KEY_VARIABLE}"
        )

    def check(self, request: Request) -> None:
        """Raises a 401 ApiError for a wrong key or none. Any key or none is good where none is set."""
        if not self._key or request.url.path in OPEN_PATHS:
            return
        scheme, _, word = request.headers.get("Authorization", "").partition(" ")
        good = secrets.compare_digest(word.encode("latin-1").strip(), self._key)  # as it was sent
        if scheme.lower() != "bearer" or not good:
            raise ApiError(401, "wrong or missing API key; send it as a Bearer token", code="invalid_api_key")


def _from_environment() -> bytes:
    return os.fsencode(os.environ.get(KEY_VARIABLE, "")).strip()


def _from_file(path: str) -> bytes:
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise ValueError(f"api_key_file is {path!r}; it cannot be read ({error.strerror})") from None
    if not key or len(key.split()) > 1:
        raise ValueError(f"api_key_file is {path!r}; expected one key in it, without spaces")
    return key
