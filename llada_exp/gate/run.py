"""The quality gate: what a decoding setting costs on the embedded model, and whether that is too much.

    python -m llada_exp.gate                                  # the server's default preset
    python -m llada_exp.gate settings=all fail=false
    python -m llada_exp.gate num_problems=0 exact=32          # exactness alone
    python -m llada_exp.gate kinds=[long] '+settings.half={steps: 32}'

Two gates, apart. *Exactness*: the engine commits what an uncached, unbatched float32 oracle commits
(gate/exactness.py), vanilla first: a slip that vanilla shares would show in no comparison with it. *Quality*:
each setting against vanilla on the same held-out problems, by accuracy and by how many texts are the very
same (gate/verdict.py has the rule). Exit code 0 where all pass; 1 where one fails, or has too few problems
to tell (`undecided=pass` lets those through).

Runs the engine in this process. The embedded model is small: its accuracy tells a sound decoder from a
broken one, and its speed says nothing of an 8B model. Imports the engine and the embedded model's tasks, no
server.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llada_exp import decoding_keys
from llada_exp.checkpoints import load_model
from llada_exp.decoding import DecodingError, describe
from llada_exp.gate import verdict
from llada_exp.gate.exactness import Exactness, exactness
from llada_exp.gate.outcome import (
    HEADER,
    Outcome,
    against,
    joined,
    judged,
    known_outcomes,
    outcome,
    row,
)
from llada_exp.offline import Engine, as_params
from llada_exp.runs import decoding_columns
from llada_exp.scoring import Scorer
from llada_exp.settings import Node, unknown_key_message
from llada_exp.tiny.evaluate import CANVAS
from llada_exp.tiny.tasks import TinyProblem, held_out
from llada_exp.types import PRESET_FIELDS, DecodingParams

VANILLA = "vanilla"


def measure(
    engine: Engine, kind: str, problems: Sequence[TinyProblem], setting: str, params: DecodingParams
) -> Outcome:
    """Decode every problem under one setting and score it."""
    started = time.perf_counter()
    chats = [[{"role": "user", "content": problem.question}] for problem in problems]
    outputs = engine.chat(chats, params, progress=sys.stderr.isatty())
    seconds = time.perf_counter() - started
    with Scorer() as scorer:
        correct = tuple(scorer.is_right(o.text, p.answer) for p, o in zip(problems, outputs, strict=True))
    return outcome(setting, kind, outputs, correct, seconds)


def run(
    engine: Engine,
    kinds: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    num_problems: int,
    report: Callable[[Outcome], None] = lambda outcome: None,
    known: Mapping[tuple[str, str], Outcome] | None = None,
) -> list[Outcome]:
    """Vanilla first, then every setting, per kind. `settings` are decoding fields by name, as a request names
    them; what they do not name is vanilla's, and the canvas is the kind's. `known`: what an earlier run
    measured of the first problems, by kind and setting, which is not decoded again. Raises ValueError naming
    a bad setting before anything runs."""
    known = known or {}
    outcomes: list[Outcome] = []
    for kind, plan in plans(kinds, settings).items():
        problems = held_out(kind, num_problems)
        vanilla = None
        for name, params in plan.items():
            found = known.get((kind, name))
            done = found.accuracy.n if found else 0
            if done < num_problems:
                fresh = measure(engine, kind, problems[done:], name, params)
                found = joined(found, fresh) if found else fresh
            assert found is not None
            vanilla = vanilla or found
            outcomes.append(found if name == VANILLA else against(vanilla, found))
            report(outcomes[-1])
    return outcomes


def run_exact(
    engine: Engine, kinds: Sequence[str], settings: Mapping[str, Mapping[str, Any]], num_problems: int
) -> list[Exactness]:
    """Vanilla and every setting against the oracle, on the first problems of each kind. Raises ValueError as
    `run` does, and where the model is not float32."""
    return exactness(engine, {k: held_out(k, num_problems) for k in kinds}, plans(kinds, settings))


def verdicts(
    outcomes: Sequence[Outcome], exact: Sequence[Exactness], limits: verdict.Limits
) -> list[verdict.Verdict]:
    """The gate's word on each: exactness where it has an oracle, quality where there is a comparison."""
    held = [v for found in exact if (v := verdict.exact(found)) is not None]
    return held + [judged(o, limits) for o in outcomes if o.versus is not None]


def unjudged(exact: Sequence[Exactness], outcomes: Sequence[Outcome]) -> list[Exactness]:
    """Settings that the oracle does not decode, and that were not compared with vanilla either."""
    compared = {(o.setting, o.kind) for o in outcomes}
    return [e for e in exact if e.undefined is not None and (e.setting, e.kind) not in compared]


def plans(
    kinds: Sequence[str], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, DecodingParams]]:
    """Parameters by kind and name, vanilla first."""
    if VANILLA in settings:
        raise ValueError(f"settings.{VANILLA}: the name is taken; expected another")
    every = {VANILLA: {}, **settings}
    return {kind: {name: _params(kind, name, own) for name, own in every.items()} for kind in kinds}


def _params(kind: str, name: str, own: Mapping[str, Any]) -> DecodingParams:
    if kind not in CANVAS:
        raise ValueError(f"kinds holds {kind!r}; expected {', '.join(CANVAS)}")
    try:
        return as_params(own, DecodingParams(max_tokens=CANVAS[kind]))
    except DecodingError as error:
        raise ValueError(f"settings.{name}: {error}") from None


def exact_row(found: Exactness) -> str:
    """One line on exactness."""
    name = f"{found.setting:<20} {found.kind:<6}"
    if found.undefined is not None:
        return f"{name} no oracle: {found.undefined}"
    return f"{name} {found.num_equal} of {found.n} exact, {found.num_passes} passes, {found.num_ties} ties"


def exact_sum(found: Sequence[Exactness]) -> str:
    """The last line on exactness."""
    equal, n, passes, ties = (
        sum(getattr(one, name) for one in found) for name in ("num_equal", "n", "num_passes", "num_ties")
    )
    return f"in all: {equal} of {n} exact, {passes} passes, {ties} ties"


def named_setting(tree: Mapping[str, Any], chosen: bool = False) -> dict[str, dict[str, Any]]:
    """The setting that the keys `decoding.*` name over the preset, as `serve` would take it; {} where none is
    named, nor the preset chosen. Raises ValueError."""
    preset = decoding_keys.read_preset(Node(tree["preset"], "preset", PRESET_FIELDS).tree)
    named = decoding_keys.named_fields(Node(tree["decoding"], "decoding", PRESET_FIELDS).tree)
    if not named and not chosen:
        return {}
    used = decoding_columns.values(describe(decoding_keys.apply(named, preset)))
    if "max_tokens" not in named:  # then that of the problems
        del used["max_tokens"]
    return {decoding_keys.NAMED: used}


def judged_settings(tree: Mapping[str, Any], words: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """`settings`, and what `decoding.*` names or, where `words` of the command line choose or change the
    preset, that preset; left out where it is one of `settings`. Raises ValueError naming a bad one."""
    settings = tree["settings"]
    own = named_setting(tree, chosen=any(map(decoding_keys.chooses_preset, words)))
    every = plans(tree["kinds"], {**settings, **own}).values()
    repeated = own and all(any(p[decoding_keys.NAMED] == p[name] for name in settings) for p in every)
    return {**settings, **({} if repeated else own)}


KEYS = (
    "model", "kinds", "num_problems", "batch_size", "device", "dtype", "settings", "resume", "exact",
    "margin", "min_agreement", "undecided", "fail", "preset", "decoding",
)  # fmt: skip


def gate(cfg: Any) -> int:
    """Run a composed conf/gate.yaml: print the tables, write the rows. The exit code."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    tree: Any = OmegaConf.to_container(cfg, resolve=True)
    limits = _checked(tree)
    tree["settings"] = judged_settings(tree, HydraConfig.get().overrides.task)
    known = known_outcomes(Path(tree["resume"]), tree["num_problems"]) if tree["resume"] else {}
    model = load_model(**tree["model"], device=tree["device"], dtype=tree["dtype"])
    engine = Engine(model, batch_size=tree["batch_size"])
    folder = Path(HydraConfig.get().runtime.output_dir)
    exact: list[Exactness] = []
    outcomes: list[Outcome] = []
    if tree["exact"]:
        exact = run_exact(engine, tree["kinds"], tree["settings"], tree["exact"])
        print(*map(exact_row, exact), exact_sum(exact), "", sep="\n", flush=True)
        lines = [json.dumps(asdict(found)) + "\n" for found in exact]
        (folder / "exact.jsonl").write_text("".join(lines))
    if tree["num_problems"]:
        print(HEADER, flush=True)

        def report(outcome: Outcome) -> None:
            print(row(outcome, limits), flush=True)
            with (folder / "outcomes.jsonl").open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")

        outcomes = run(engine, tree["kinds"], tree["settings"], tree["num_problems"], report, known)
    print(f"rows: {folder}")
    found = verdicts(outcomes, exact, limits)
    return _conclude(found, tree["undecided"], tree["fail"], unjudged(exact, outcomes))


def _conclude(
    found: Sequence[verdict.Verdict], undecided: str, fail: bool, left: Sequence[Exactness] = ()
) -> int:
    """Say which do not pass and by how much. left: settings of which there is no verdict. The exit code; a
    failure's, where there is none at all or vanilla's alone beside such settings."""
    for e in left:
        print(f"not judged: {e.setting}, {e.kind}: no oracle ({e.undefined}), no problems to compare")
    if not found or (left and all(one.setting == VANILLA for one in found)):
        print("gate: nothing was judged: no setting to compare, and none held to the oracle", flush=True)
        return 1 if fail else 0
    bad = verdict.failing(found, undecided)
    for one in found:
        if one.word != verdict.PASS:
            print(f"{one.word}: {one}{'' if one in bad else ' (let through)'}")
    print(f"gate: {f'{len(bad)} of {len(found)} verdicts do not pass' if bad else 'pass'}", flush=True)
    return 1 if bad and fail else 0


def _checked(tree: Mapping[str, Any]) -> verdict.Limits:
    """Raises ValueError naming the key."""
    for key in tree:
        if key not in KEYS:
            raise ValueError(unknown_key_message(key, KEYS, decoding_keys.MOVED_OF_SERVER))
    for key, least in (("num_problems", 0), ("batch_size", 1), ("exact", 0)):
        if isinstance(tree[key], bool) or not isinstance(tree[key], int) or tree[key] < least:
            raise ValueError(f"{key} is {tree[key]!r}; expected an integer >= {least}")
    if not tree["num_problems"] and not tree["exact"]:
        raise ValueError("num_problems and exact are both 0; expected one of them above")
    if tree["undecided"] not in (verdict.FAIL, verdict.PASS):
        raise ValueError(f"undecided is {tree['undecided']!r}; expected fail or pass")
    if not isinstance(tree["fail"], bool):
        raise ValueError(f"fail is {tree['fail']!r}; expected true or false")
    return verdict.Limits(tree["margin"], tree["min_agreement"])


def main() -> None:
    from llada_exp.cli import run_app

    keys = (
        f"{group}.{name}" for group in (decoding_keys.NAMED, decoding_keys.PRESET) for name in PRESET_FIELDS
    )
    run_app(gate, "gate", (*KEYS, *keys), decoding_keys.MOVED_OF_SERVER)
