"""Known decoding bugs, injected on purpose: what the embedded model must be able to tell.

    python -m tests.gate.faults [--kind long] [--canvas 256] [--num-problems 300] [--exact 8]

prints what the gate says of each: of its quality, against a sound engine's vanilla, and of its exactness.
The switches live here: the engine has none. In a faulty engine vanilla is as faulty: there only exactness
tells (docs/decoding.md).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import yaml
from torch import Tensor

from llada_exp import Engine, load_model
from llada_exp.engine.batch import Batch
from llada_exp.engine.decoder import Decoder
from llada_exp.gate.measure import VANILLA, measure, measure_exactness
from llada_exp.gate.outcome import Outcome, against
from llada_exp.gate.report import LiveTable, exact_table
from llada_exp.gate.strata import STRATA, problems
from llada_exp.gate.verdict import PASS, Limits, quality_verdict, verdicts
from llada_exp.runs.statistics import proportion
from llada_exp.settings import conf_dir
from llada_exp.types import DecodingParams

NUM_PADS = 24


class ShiftedPositions(Decoder):
    """Answer positions one too high, as when a cache's offset counts from 1."""

    def _logits(self, batch: Batch) -> Tensor:
        rows = [r for r in batch.requests for _ in range(r.params.num_rows)]
        for request, segment in zip(rows, batch.segments, strict=True):
            positions = batch.positions[segment.start : segment.stop]
            positions += positions >= request.prompt_length
        return super()._logits(batch)


class StaleCache(Decoder):
    """K/V kept at a row's first pass are never written again: later blocks see masks before them."""

    def _logits(self, batch: Batch) -> Tensor:
        stale = [
            segment.slot.target(segment.positions, self.model.device)
            for request, segment in zip(batch.requests, batch.segments, strict=True)
            if request.nfe > 0 and segment.slot is not None
        ]
        kept = [[x[:, target].clone() for x in self.kv.tensors] for target in stale]
        logits = super()._logits(batch)
        for target, tensors in zip(stale, kept, strict=True):
            for whole, part in zip(self.kv.tensors, tensors, strict=True):
                whole[:, target] = part
        return logits


class AttendedPadding(Engine):
    """Prompts padded on the left with EOS that nothing masks, as batches of the predecessor were."""

    def add_request(self, prompt_ids, params, **kwargs):
        pads = [self.model.special.ends[0]] * NUM_PADS
        return super().add_request([*pads, *prompt_ids], params, **kwargs)


def _engine(cls: type[Engine] = Engine, decoder: type[Decoder] = Decoder) -> Engine:
    engine = cls(load_model(), batch_size=16)
    engine.decoder = decoder(engine.model, engine.decoder.kv.num_positions)
    return engine


FAULTS: dict[str, tuple[Callable[[], Engine], dict]] = {
    "commit_everything": (_engine, {"rule": "threshold", "threshold": 0.0}),
    "attended_padding": (lambda: _engine(AttendedPadding), {}),
    "shifted_positions": (lambda: _engine(decoder=ShiftedPositions), {}),
    "stale_cache": (
        lambda: _engine(decoder=StaleCache),
        {"cache": "dual", "refresh": "window", "refresh_window": 0},
    ),
}
SOUND = {
    "dual": {"cache": "dual"},
    "dual_threshold_0.99": {"cache": "dual", "rule": "threshold", "threshold": 0.99},
    **yaml.safe_load((conf_dir() / "settings" / "fast.yaml").read_text()),  # the server's preset
}
LIMITS = Limits()


def known_vanilla(path: Path, kind: str, canvas: int, num_problems: int) -> Outcome:
    """Vanilla's outcome on the first problems of a gate's rows, instead of decoding it again."""
    for row_ in map(json.loads, path.read_text().splitlines()):
        place = (row_["kind"], row_["setting"], row_["canvas"])
        if place == (kind, VANILLA, canvas) and len(row_["correct"]) >= num_problems:
            part = {key: tuple(row_[key][:num_problems]) for key in ("correct", "texts")}
            return Outcome(**{**row_, **part, "accuracy": proportion(part["correct"])})
    raise ValueError(f"{path} has no vanilla run of {num_problems} {kind} problems")


def compare(
    kind: str,
    canvas: int,
    num_problems: int,
    num_exact: int,
    names: list[str] | None,
    vanilla: Outcome | None,
) -> None:
    """Print vanilla, then the named faults and sound settings (all of them by default), against it; and
    which of them are exact."""
    drawn = problems(kind, num_problems)

    def outcome(name: str, engine: Engine, own: dict) -> Outcome:
        params = DecodingParams(**{"max_tokens": canvas, **own})
        return measure(engine, kind, drawn, name, params)

    settings = {name: (_engine, own) for name, own in SOUND.items()} | FAULTS
    said = []
    if num_problems:
        vanilla = vanilla or outcome(VANILLA, _engine(), {})
        live = LiveTable([VANILLA, *(names or settings)], [kind], LIMITS)
        live.add(vanilla)
        for name in names or settings:
            make, own = settings[name]
            found = against(vanilla, outcome(name, make(), own))
            said.append(quality_verdict(found, LIMITS))
            live.add(found)
    for name in names or settings:
        make, own = settings[name]
        exact = measure_exactness(make(), [kind], {name: own}, num_exact, canvas)
        print(f"engine of {name}:")
        exact_table(exact).show()
        said += verdicts([], exact, LIMITS)
    print(*(f"{one.word}: {one}" for one in said if one.word != PASS), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kind", choices=list(STRATA), default="long")
    parser.add_argument("--canvas", type=int, help="max_tokens (that just hold the answers)")
    parser.add_argument("--num-problems", type=int, default=300, help="for quality; 0: none")
    parser.add_argument("--exact", type=int, default=8, help="answers held to the oracle")
    parser.add_argument("--only", nargs="+", choices=[*SOUND, *FAULTS], help="all without it")
    parser.add_argument("--vanilla", type=Path, help="outcomes.jsonl of a gate, to take vanilla from")
    arguments = parser.parse_args()
    canvas = arguments.canvas or STRATA[arguments.kind].canvas
    own = (arguments.kind, canvas, arguments.num_problems)
    given = known_vanilla(arguments.vanilla, *own) if arguments.vanilla else None
    compare(*own, arguments.exact, arguments.only, given)
