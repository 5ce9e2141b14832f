"""Which family a config.json belongs to. Every module of this folder with a FAMILY is one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from llada_exp import models
from llada_exp.models.family import Architecture, Family, RawConfig, alternatives


def _discover() -> tuple[Family, ...]:
    names = [f"{models.__name__}.{m.name}" for m in pkgutil.iter_modules(models.__path__)]
    modules = [importlib.import_module(name) for name in names if name != __name__]
    return tuple(module.FAMILY for module in modules if hasattr(module, "FAMILY"))


FAMILIES: tuple[Family, ...] = _discover()


def family_of(raw: RawConfig, where: str) -> Family:
    """The family of a config.json. Raises ValueError naming `where`, what stands there and the families."""
    families = [family for family in FAMILIES if family.recognises(raw)]
    if not families:
        words = [f"{key} is {raw[key]!r}" for key in ("model_type", "architectures") if key in raw]
        here = alternatives(f"{f.name!r} ({f.published})" for f in FAMILIES)
        raise ValueError(f"{where}: {' and '.join(words) or 'model_type is missing'}; expected {here}")
    assert len(families) == 1, f"{[f.name for f in families]} all recognise {where}"
    return families[0]


def read_architecture(raw: RawConfig, where: str, settings: Mapping[str, Any] | None = None) -> Architecture:
    """The network that a config.json describes.

    settings: the family's own, which go before the file's keys.
    Raises ValueError naming `where`, key, value and what is implemented, or a setting that the family
    has not.
    """
    family = family_of(raw, where)
    settings = settings or {}
    if unknown := sorted(settings.keys() - set(family.settings)):
        takes = ", ".join(family.settings) or "none"
        raise ValueError(
            f"{where}: {', '.join(unknown)}: no setting of a {family.name} checkpoint; it takes {takes}"
        )
    if settings:
        where += " with " + ", ".join(f"{key}={value!r}" for key, value in settings.items())
    return family.read({**raw, **settings}, where)
