"""The quality gate: what a decoding setting costs on the embedded model, paired with vanilla.

    python -m llada_exp.evals.gate model=tiny
    python -m llada_exp.evals.gate num_problems=500 kinds=[long] '+settings.half={steps: 32}'

Runs the engine in this process, over problems with known answers that training never saw. The
embedded model is small: its accuracy tells a sound decoder from a broken one, and its speed says
nothing of an 8B model. Imports the engine and the embedded model's tasks, no server.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llada_exp.checkpoints import load_model
from llada_exp.evals.stats import Paired, Proportion, paired, proportion
from llada_exp.offline import Engine
from llada_exp.settings import unknown_key_message
from llada_exp.tiny.evaluate import CANVAS
from llada_exp.tiny.tasks import Problem, held_out, is_correct
from llada_exp.types import DecodingParams, RequestOutput

VANILLA = "vanilla"


@dataclass(frozen=True)
class Outcome:
    """One setting on one kind of problem.

    versus: against vanilla on the same problems; None for vanilla itself.
    agreement: share of answers with vanilla's very text.
    nfe, tpf, positions_per_token: means over problems, ratio of sums for the latter two.
    """

    setting: str
    kind: str
    accuracy: Proportion
    versus: Paired | None
    agreement: float
    nfe: float
    tpf: float
    positions_per_token: float
    output_throughput: float
    correct: tuple[bool, ...]
    texts: tuple[str, ...]


def measure(
    engine: Engine, kind: str, problems: Sequence[Problem], setting: str, params: DecodingParams
) -> Outcome:
    """Decode every problem under one setting and score it."""
    started = time.perf_counter()
    chats = [[{"role": "user", "content": problem.question}] for problem in problems]
    outputs = engine.chat(chats, params, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - started
    correct = tuple(is_correct(p, o.text) for p, o in zip(problems, outputs, strict=True))
    return _outcome(setting, kind, outputs, correct, seconds)


def _outcome(
    setting: str, kind: str, outputs: Sequence[RequestOutput], correct: tuple[bool, ...], seconds: float
) -> Outcome:
    tokens = sum(len(o.token_ids) for o in outputs)
    nfe = sum(o.nfe for o in outputs)
    return Outcome(
        setting=setting,
        kind=kind,
        accuracy=proportion(correct),
        versus=None,
        agreement=1.0,
        nfe=nfe / len(outputs),
        tpf=tokens / nfe,
        positions_per_token=sum(o.num_positions for o in outputs) / max(tokens, 1),
        output_throughput=tokens / seconds,
        correct=correct,
        texts=tuple(o.text for o in outputs),
    )


def against(vanilla: Outcome, other: Outcome) -> Outcome:
    """`other` with its paired comparison filled in."""
    same = sum(a == b for a, b in zip(vanilla.texts, other.texts, strict=True))
    fields = {
        **vars(other),
        "versus": paired(vanilla.correct, other.correct),
        "agreement": same / len(other.texts),
    }
    return Outcome(**fields)


def run(
    engine: Engine,
    kinds: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    num_problems: int,
    report: Callable[[Outcome], None] = lambda outcome: None,
    known: Mapping[tuple[str, str], Outcome] | None = None,
) -> list[Outcome]:
    """Vanilla first, then every setting, per kind. `settings` are DecodingParams by name; each
    starts from the kind's canvas. `known`: what an earlier run measured, by kind and setting, and is not
    decoded again. Raises ValueError naming a bad setting before anything runs."""
    known = known or {}
    plans = {kind: {name: _params(kind, name, own) for name, own in settings.items()} for kind in kinds}
    outcomes: list[Outcome] = []
    for kind in kinds:
        problems = held_out(kind, num_problems)
        vanilla = known.get((kind, VANILLA)) or measure(
            engine, kind, problems, VANILLA, _params(kind, VANILLA, {})
        )
        report(vanilla)
        outcomes.append(vanilla)
        for name, params in plans[kind].items():
            outcome = known.get((kind, name)) or against(
                vanilla, measure(engine, kind, problems, name, params)
            )
            report(outcome)
            outcomes.append(outcome)
    return outcomes


def _params(kind: str, name: str, own: Mapping[str, Any]) -> DecodingParams:
    if kind not in CANVAS:
        raise ValueError(f"kinds holds {kind!r}; expected {', '.join(CANVAS)}")
    try:
        return DecodingParams(**{"max_tokens": CANVAS[kind], **own})
    except (TypeError, ValueError) as error:
        raise ValueError(f"settings.{name}: {error}") from None


def known_outcomes(path: Path, num_problems: int) -> dict[tuple[str, str], Outcome]:
    """An earlier run's outcomes on as many problems, by kind and setting. Raises ValueError naming a
    file that holds none."""
    found = {}
    try:
        for row in map(json.loads, path.read_text().splitlines()):
            if len(row["correct"]) == num_problems:
                versus = None if row["versus"] is None else Paired(**row["versus"])
                answers = {key: tuple(row[key]) for key in ("correct", "texts")}
                own = {**row, **answers, "accuracy": Proportion(**row["accuracy"]), "versus": versus}
                found[row["kind"], row["setting"]] = Outcome(**own)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"resume is {str(path)!r}; expected a gate's outcomes.jsonl ({error})") from None
    return found


HEADER = (
    f"{'setting':<20} {'kind':<6} {'n':>4} {'accuracy % [95 %]':<20} {'vs vanilla [95 %]':<22} "
    f"{'McNemar p':>9} {'same':>5} {'NFE':>6} {'TPF':>5} {'pos/tok':>8} {'tok/s':>7}"
)


def row(outcome: Outcome) -> str:
    """One line under `HEADER`."""
    a, v = outcome.accuracy, outcome.versus
    accuracy = f"{100 * a.value:5.1f} [{100 * a.low:.1f}, {100 * a.high:.1f}]"
    versus = f"{100 * v.difference:+5.1f} [{100 * v.low:+.1f}, {100 * v.high:+.1f}]" if v else "-"
    p_value = f"{v.p_value:.2g}" if v else "-"
    return (
        f"{outcome.setting:<20} {outcome.kind:<6} {a.n:>4} {accuracy:<20} {versus:<22} {p_value:>9} "
        f"{100 * outcome.agreement:>4.0f}% {outcome.nfe:>6.1f} {outcome.tpf:>5.2f} "
        f"{outcome.positions_per_token:>8.1f} {outcome.output_throughput:>7.0f}"
    )


KEYS = ("model", "kinds", "num_problems", "batch_size", "device", "dtype", "settings", "resume")


def gate(cfg: Any) -> int:
    """Run a composed conf/gate.yaml: print the table, write the rows. The exit code."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    for key in tree:
        if key not in KEYS:
            raise ValueError(unknown_key_message(key, KEYS))
    for key in ("num_problems", "batch_size"):
        if not isinstance(tree[key], int) or tree[key] < 1:
            raise ValueError(f"{key} is {tree[key]!r}; expected an integer >= 1")
    known = known_outcomes(Path(tree["resume"]), tree["num_problems"]) if tree["resume"] else {}
    model = load_model(**tree["model"], device=tree["device"], dtype=tree["dtype"])
    engine = Engine(model, batch_size=tree["batch_size"])
    folder = Path(HydraConfig.get().runtime.output_dir)
    print(HEADER, flush=True)

    def report(outcome: Outcome) -> None:
        print(row(outcome), flush=True)
        with (folder / "outcomes.jsonl").open("a") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")

    run(engine, tree["kinds"], tree["settings"], tree["num_problems"], report, known)
    print(f"rows: {folder / 'outcomes.jsonl'}")
    return 0


def main() -> None:
    from llada_exp.cli import run_app

    run_app(gate, "gate", KEYS)


if __name__ == "__main__":
    main()
