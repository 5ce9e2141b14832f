"""When the requests of an open loop are sent: seconds from the start, by rate, pattern and seed.

Pure arithmetic, so that the same seed is the same load against every server.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator


def arrivals(rate: float, arrival: str, burst_size: int, seed: int) -> Iterator[float]:
    """Endless, ascending. rate: requests a second in the long run, inf = all at once; arrival: poisson
    (gaps exponential), constant, or burst (`burst_size` at once)."""
    rng = random.Random(f"arrivals {seed}")
    now = 0.0
    while True:
        if math.isinf(rate):
            yield 0.0
        elif arrival == "burst":
            yield from [now] * burst_size
            now += burst_size / rate
        else:
            yield now
            now += rng.expovariate(rate) if arrival == "poisson" else 1 / rate
