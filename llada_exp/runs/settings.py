"""Keys that every run has beside its server's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from llada_exp.validation import Flag, Text

TrackingMode = Literal["offline", "online", "disabled"]
TRACKING = get_args(TrackingMode)


@dataclass(frozen=True)
class Tracking:
    mode: TrackingMode
    project: Text
    entity: Text | None
    log_text: Flag


TRACKING_KEYS = tuple(f.name for f in fields(Tracking))
