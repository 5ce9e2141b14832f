"""What a measurement on a GPU writes: one file of rows, whole lines at any time, within a budget of seconds.

Knows no model and no engine.
"""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

Measured = Mapping[str, Any]
Measure = Callable[[], Iterable[Measured]]


class GPURows:
    """Appends rows to a file, each flushed as it is measured, until the budget is spent.

    seconds: from construction. Every row says `measure`, and `at`, the seconds since then.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._seconds, self._began = path, seconds, time.perf_counter()
        self.rows: list[dict[str, Any]] = []

    @property
    def seconds_left(self) -> float:
        return self._seconds - (time.perf_counter() - self._began)

    def write(self, measure: str, row: Measured) -> None:
        whole = {"measure": measure, "at": round(time.perf_counter() - self._began, 2), **row}
        self.rows.append(whole)
        with self._path.open("a") as file:
            file.write(json.dumps(whole) + "\n")
        print(_line(whole), flush=True)

    def run(self, measure: str, work: Measure, at_least: float = 0.0) -> None:
        """Write what `work` yields. What raises is a row with its error; so is what the budget, of which
        `at_least` seconds must be left, does not allow."""
        if self.seconds_left < max(at_least, 1.0):
            self.write(measure, {"error": "no time left", "seconds_left": round(self.seconds_left, 1)})
            return
        try:
            for row in work():
                self.write(measure, row)
                if self.seconds_left < 1.0:
                    self.write(measure, {"error": "stopped: no time left"})
                    return
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            self.write(measure, {"error": f"{type(error).__name__}: {str(error)[:300]}", "where": where})
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _line(row: Measured) -> str:
    return "  ".join(f"{key}={_short(value)}" for key, value in row.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
