"""Whether answers were decoded as asked, by the server's own word.

A score under parameters that never arrived, or that the rule in use does not have, is another setting's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from llada_exp.types import DECODING_FIELDS


def difference(asked: Mapping[str, Any], used: Sequence[Mapping[str, Any]]) -> str | None:
    """The first field that some response was decoded otherwise in, and how many; None where there is none.

    asked: fields of the requests, by the server's names; others are passed over (an alias, a user's name).
    used:  the effective parameters of each response that tells them.
    """
    for name, value in asked.items():
        if name not in DECODING_FIELDS or name == "stop":
            continue
        want = 0 if name == "top_k" and value == -1 else value
        others = Counter(repr(own.get(name)) for own in used if not _same(own.get(name), want))
        if others:
            told = ", ".join(f"{other} in {count}" for other, count in others.most_common(3))
            return (
                f"{name} was asked as {value!r}, but the server used {told} of {len(used)} responses; is it a"
                " field of the rule that is used?"
            )
    return None


def _same(used: Any, want: Any) -> bool:
    numbers = [isinstance(x, int | float) and not isinstance(x, bool) for x in (used, want)]
    return math.isclose(used, want) if all(numbers) else used == want
