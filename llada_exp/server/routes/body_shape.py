"""How much a body holds, counted in its bytes before anything is parsed: a few bytes of JSON become a hundred
of objects, and what is to be refused must not be built first.

Counts are exact for JSON, and for other bytes up to where they stop to be JSON, which is as far as a parser
builds anything. Knows no field.
"""

from __future__ import annotations

from collections.abc import Iterator

from llada_exp.server.routes.errors import bad_request

MAX_VALUES = 2**22
"""In all lists and objects of a body: 1024 prompts of 4096 token ids."""
MAX_NAMES = 2**18
"""Names of fields, and lists and objects, each."""
MAX_DEPTH = 100

_STRETCH = 2**20
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},:"))
_BRACKETS = b"[{"


def check_shape(body: bytes) -> None:
    """Raises a 400 ApiError that names the limit."""
    values, names, containers = _counts(body)  # those inside texts, too: enough for most bodies
    if values <= MAX_VALUES and max(names, containers) <= MAX_NAMES and containers <= MAX_DEPTH:
        return
    structure = b"".join(_structure(body))
    values, names, containers = _counts(structure)
    for count, limit, what in (
        (values, MAX_VALUES, "values"),
        (names, MAX_NAMES, "names of fields"),
        (containers, MAX_NAMES, "lists and objects"),
    ):
        if count > limit:
            raise bad_request(f"the body holds {count} {what}; at most {limit}", code="invalid_value")
    if containers > MAX_DEPTH:
        _check_depth(structure.translate(None, b",:"))


def _counts(text: bytes) -> tuple[int, int, int]:
    containers = sum(text.count(bracket) for bracket in _BRACKETS)
    return text.count(b",") + containers, text.count(b":"), containers


def _structure(body: bytes) -> Iterator[bytes]:
    """Brackets, commas and colons outside of texts, by stretches: of a million short texts at once all would
    be objects."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    inside = 0
    for start in range(0, len(plain), _STRETCH):
        pieces = plain[start : start + _STRETCH].split(b'"')
        yield b"".join(pieces[inside::2]).translate(None, _NOT_STRUCTURE)
        inside = (inside + len(pieces) - 1) % 2


def _check_depth(brackets: bytes) -> None:
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in _BRACKETS else -1
        if depth > MAX_DEPTH:
            raise bad_request(f"the body is nested deeper than {MAX_DEPTH} levels", code="invalid_json")
