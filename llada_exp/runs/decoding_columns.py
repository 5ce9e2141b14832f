"""The columns of result rows that say how requests were decoded, derived from the declared fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llada_exp.runs.files import Column
from llada_exp.types import DECLARATIONS, PRESET_FIELDS

_TYPES = {"integer": "integer", "number": "number", "flag": "flag", "choice": "text"}


def _meaning(name: str) -> str:
    declared = DECLARATIONS[name]
    notes = []
    if declared.rules:
        notes.append(f"of rule {', '.join(declared.rules)}")
    if declared.beside:
        field, values = declared.beside
        notes.append(f"of {field} {', '.join(values)}")
    return declared.help + (f" ({'; '.join(notes)}; else null)" if notes else "")


COLUMNS = tuple(Column(name, _TYPES[DECLARATIONS[name].kind], _meaning(name)) for name in PRESET_FIELDS)


def values(params: Mapping[str, Any]) -> dict[str, Any]:
    """Column -> value of the parameters that were used, by a server's own word or, where it gives none, of
    those that were asked for; None where there is none, or where it plays no part."""
    return {name: params.get(name) if _plays_a_part(name, params) else None for name in PRESET_FIELDS}


def _plays_a_part(name: str, params: Mapping[str, Any]) -> bool:
    declared = DECLARATIONS[name]
    if declared.rules and params.get("rule") not in declared.rules:
        return False
    if declared.beside is None:
        return True
    field, among = declared.beside
    return params.get(field) in among and _plays_a_part(field, params)
