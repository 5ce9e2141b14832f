"""Going on in a folder that NeMo-Skills wrote: what was answered stays, what failed or was cut off is asked
again.

NeMo-Skills appends answers to OUTPUT.jsonl-async, each with its place; at its end it puts them in order into
OUTPUT.jsonl, takes the first file away, scores in place, and touches OUTPUT.jsonl.done. With skip_filled it
asks what OUTPUT.jsonl-async lacks, and nothing where OUTPUT.jsonl is there, whole or not. Knows files, no
process.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llada_exp import jsonl
from llada_exp.evals.nemo.command import NemoPlan
from llada_exp.runs.files import write_whole

PLACE = "_async_position"
Failure = Callable[[Mapping[str, Any], int], str | None]
"""(a line of output, its seed) -> why it is no answer; None where it is one."""


def go_on(plan: NemoPlan, failure: Failure) -> int:
    """Leave of every output what needs not be asked again; how many answers those are. May be killed at any
    moment, and called again."""
    num_answers = 0
    for (benchmark, sample), path in plan.outputs().items():
        seed = plan.seed_of(benchmark, sample)
        lines = _lines(path)
        good = {place: line for place, line in lines.items() if failure(line, seed) is None}
        num_answers += len(good)
        part, done = path.with_name(f"{path.name}-async"), path.with_name(f"{path.name}.done")
        if done.exists() and path.exists() and not part.exists() and len(good) == len(lines):
            continue
        if good:
            text = "".join(json.dumps({**line, PLACE: place}) + "\n" for place, line in good.items())
            write_whole(part, text)
        for old in (done, path, *(() if good else (part,)), path.parent / "metrics.json"):
            old.unlink(missing_ok=True)
    return num_answers


def _lines(path: Path) -> dict[int, dict[str, Any]]:
    """Place -> line, of the file in pieces where it is there: then the whole one may be cut off."""
    part = path.with_name(f"{path.name}-async")
    places: dict[int, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in jsonl.lines(part, jsonl.ANY):
            if isinstance(place := line.tree.pop(PLACE, None), int):
                places[place] = line.tree
        return places
    with contextlib.suppress(FileNotFoundError):
        for number, line in enumerate(jsonl.lines(path, jsonl.LAST)):
            places[number] = line.tree
    return places
