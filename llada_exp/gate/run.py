"""The quality gate: what a decoding setting costs on the embedded model, and whether that is too much.

    python -m llada_exp.gate                                  # the server's default preset
    python -m llada_exp.gate form=served                      # at the served canvas alone
    python -m llada_exp.gate settings=all fail=false
    python -m llada_exp.gate num_problems=0 exact=32          # exactness alone
    python -m llada_exp.gate 'kinds=[long]' '+settings.half={steps: 32}'

Three gates, apart. *Exactness*: the engine commits what an uncached, unbatched float32 oracle commits
(gate/exactness.py), vanilla first: a slip that vanilla shares would show in no comparison with it. *Quality*:
each setting against vanilla on the same held-out problems, by accuracy and by how many texts are the very
same, in every stratum (gate/strata.py) and at every canvas (gate/verdict.py has the rule). *HTTP*: a server
of the preset answers a sample of the problems as the engine does (gate/over_http.py). Exit code 0 where all
pass; 1 where one fails, or has too few problems to tell (`undecided=pass` lets those through).

The embedded model is small: its accuracy tells a sound decoder from a broken one, and its speed says nothing
of an 8B model. This file is Hydra's side of it: keys in, rows and lines out.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from llada_exp import decoding_keys
from llada_exp.checkpoints import load_model
from llada_exp.gate import report, summary
from llada_exp.gate.exactness import Exactness
from llada_exp.gate.measure import VANILLA, Place, measure_exactness, measure_quality
from llada_exp.gate.outcome import HttpSample, Outcome, read_outcomes
from llada_exp.gate.over_http import compare_http
from llada_exp.gate.settings import KEYS, canvases, check, judged_settings, numbers
from llada_exp.gate.verdict import unjudged, verdicts
from llada_exp.offline import Engine
from llada_exp.signals import EndedBySignal
from llada_exp.tables import terminal_width
from llada_exp.types import PRESET_FIELDS

OUTCOMES = "outcomes.jsonl"


def gate(cfg: Any) -> int:
    """Run a composed conf/gate.yaml: print the tables, write the rows. The exit code."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    limits = check(tree)
    settings = judged_settings(tree, HydraConfig.get().overrides.task)
    sizes, lengths = numbers(tree), canvases(tree)
    earlier = earlier_outcomes(tree["resume"], sizes) if tree["resume"] else {}
    model = load_model(**tree["model"], device=tree["device"], dtype=tree["dtype"])
    engine = Engine(model, batch_size=tree["batch_size"])
    folder = Path(HydraConfig.get().runtime.output_dir)
    with _go_on_hint(folder):
        exactnesses: list[Exactness] = []
        outcomes: list[Outcome] = []
        samples: list[HttpSample] = []
        if tree["exact"]:
            exactnesses = measure_exactness(engine, tree["kinds"], settings, tree["exact"], lengths[0])
            _print_exactness(exactnesses, folder)
        if tree["http"] and tree["num_problems"] != 0:
            samples = compare_http(engine, tree, lengths, tree["http"], folder)
            print(*map(summary.over_http, samples), "", sep="\n", flush=True)
        if tree["num_problems"] != 0:
            live = report.LiveTable([VANILLA, *settings], tree["kinds"], limits, folder / "outcomes.txt")

            def add(outcome: Outcome) -> None:
                live.add(outcome)
                row = asdict(replace(outcome, margin=limits.margin_of(outcome)))
                with (folder / OUTCOMES).open("a") as file:
                    file.write(json.dumps(row) + "\n")

            outcomes = measure_quality(engine, sizes, lengths, settings, add, earlier)
            live.end()
    print(f"rows: {folder}")
    judged = verdicts(outcomes, exactnesses, limits, samples)
    return report.conclude(
        judged,
        tree["undecided"],
        tree["fail"],
        unjudged(outcomes, exactnesses),
        summary.scope(outcomes, limits),
    )


@contextmanager
def _go_on_hint(folder: Path) -> Iterator[None]:
    """Where a signal ends the block."""
    try:
        yield
    except EndedBySignal as end:
        outcomes = folder / OUTCOMES
        words = [word for word in sys.argv[1:] if not word.startswith("resume=")]
        if outcomes.is_file():
            end.results = f"what was measured so far is in {outcomes}"
            words.append(f"resume={outcomes}")
        else:
            end.results = "nothing was measured to its end yet"
        end.again = shlex.join(["python", "-m", "llada_exp.gate", *words])
        raise


def _print_exactness(exactnesses: list[Exactness], folder: Path) -> None:
    report.exact_table(exactnesses).show(folder / "exact.txt")
    reasons = report.without_oracle(exactnesses, terminal_width())
    print(*reasons, report.exact_sum(exactnesses), "", sep="\n", flush=True)
    (folder / "exact.jsonl").write_text("".join(json.dumps(asdict(e)) + "\n" for e in exactnesses))


def earlier_outcomes(path: str | Path, num_problems: Mapping[str, int]) -> Mapping[Place, Outcome]:
    """Another run's outcomes on as many problems of their kind or fewer; the last of each. Raises ValueError
    naming a file that holds none."""
    try:
        outcomes = read_outcomes(Path(path))
    except ValueError as error:
        raise ValueError(f"resume is {error}") from None
    return {o.place: o for o in outcomes if o.accuracy.n <= num_problems.get(o.kind, 0)}


def main() -> None:
    from llada_exp.cli import run_app

    keys = (
        f"{group}.{name}"
        for group in (decoding_keys.DECODING, decoding_keys.PRESET)
        for name in PRESET_FIELDS
    )
    run_app(gate, "gate", (*KEYS, *keys), decoding_keys.MOVED_OF_SERVER, names=("resume",))
