"""Exactness, apart from quality: every commit of the engine against the oracle's, on the same problems.

The engine decodes all settings and kinds in one mixed batch; the oracle (gate/oracle.py) goes along row by
row and says at each pass what had to be committed, and how surely. Equal at every pass is equal ids, by
induction. It sees what accuracy cannot: a slip that changes no answer, or that vanilla makes too, so that
nothing differs from vanilla. What it cannot see is a slip in the network's layers, which both share:
tests/models hold those.

A tie is no difference: where moving the oracle's log-odds (or a candidate's logit) by less than
`TIE` gives the engine's commits, two sums in another order may decide, the engine's are taken, and the tie
is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llada_exp.gate.oracle import Oracle, undefined
from llada_exp.gate.oracle_rules import Proposal, probability
from llada_exp.offline import Engine
from llada_exp.tiny.tasks import TinyProblem, messages
from llada_exp.types import BlockCommit, DecodingParams, RequestOutput

Decode = Callable[[Sequence[int]], str]

TIE = 1e-4  # in logits
NUM_SHOWN = 3  # commits of a pass that differs


@dataclass(frozen=True)
class Exactness:
    """One setting on one kind of problem.

    num_equal: answers of n of which every pass was the oracle's. num_passes: compared; num_ties: of those.
    difference: the first one, in words. undefined: why the oracle does not decode this setting.
    """

    setting: str
    kind: str
    n: int
    num_equal: int
    num_passes: int
    num_ties: int
    difference: str | None = None
    undefined: str | None = None


def exactness(
    engine: Engine,
    problems: Mapping[str, Sequence[TinyProblem]],
    settings: Mapping[str, Mapping[str, DecodingParams]],
) -> list[Exactness]:
    """problems: by kind; settings: by kind and name. Raises ValueError where the model is not float32:
    rounding would decide between candidates."""
    if str(engine.model.dtype) != "torch.float32":
        raise ValueError(f"dtype is {engine.model.dtype}; expected float32, to compare ids, or exact=0")
    jobs = [
        (kind, name, problem)
        for kind, by_name in settings.items()
        for problem in problems[kind]  # neighbours in the batch differ in setting
        for name, params in by_name.items()
        if undefined(params) is None
    ]
    chats = [messages(problem) for _, _, problem in jobs]
    each = [replace(settings[kind][name], trace=True) for kind, name, _ in jobs]
    rows: dict[tuple[str, str], list[Checked]] = {
        (kind, name): [] for kind, by_name in settings.items() for name in by_name
    }
    if jobs:
        outputs = engine.chat(chats, each)
        for (kind, name, _), chat, params, output in zip(jobs, chats, each, outputs, strict=True):
            prompt = engine.tokenizer.encode_chat(chat)
            rows[kind, name].append(check(engine.model, prompt, params, output, engine.tokenizer.decode))
    return [_sum(kind, name, settings[kind][name], answers) for (kind, name), answers in rows.items()]


@dataclass(frozen=True)
class Checked:
    """One answer: passes compared, ties among them, and the first difference in words."""

    passes: int
    ties: int
    difference: str | None


def check(
    model: Any, prompt: Sequence[int], params: DecodingParams, output: RequestOutput, decode: Decode
) -> Checked:
    """Follow an answer's trace (`DecodingParams.trace`) with the oracle. decode: how ids read."""
    oracle, ties, seeds = Oracle(model, prompt, params), 0, 0
    for number, step in enumerate(output.trace):
        if oracle.done:
            return Checked(number, ties, f"pass {number} is one more than the canvas needs")
        proposal = oracle.propose()
        theirs = dict(zip(step.positions, step.token_ids, strict=True))
        if step.remasked:  # no rule that the oracle defines takes a token back
            return Checked(number, ties, f"pass {number}: the engine masks {step.remasked} again")
        if theirs != (ours := proposal.commits()):
            if not is_tie(proposal, theirs):
                return Checked(number, ties, f"pass {number}: {_apart(proposal, step, ours, decode)}")
            ties += 1
        if unsure := _unsure(proposal, step, decode):
            return Checked(number, ties, f"pass {number}: {unsure}")
        oracle.commit(theirs)
        seeds += proposal.seeds
    passes = len(output.trace)
    if passes - seeds != output.nfe:
        return Checked(passes, ties, f"nfe is {output.nfe} where {passes - seeds} passes committed")
    if seeds > output.store_passes:
        return Checked(passes, ties, f"store_passes is {output.store_passes} where {seeds} gave a token")
    if list(output.token_ids) != oracle.answer():
        return Checked(passes, ties, "the commits are the oracle's, the answer is cut elsewhere")
    return Checked(passes, ties, None)


def is_tie(proposal: Proposal, theirs: Mapping[int, int]) -> bool:
    """Whether `theirs`, answer positions and tokens, is what the rule commits where every log-odds moves by
    less than TIE, and every token is within TIE of its position's best."""
    inside = {position - proposal.start: token for position, token in theirs.items()}
    if not set(inside) <= set(proposal.places):
        return False
    for i, token in inside.items():
        behind = float(proposal.scores[i, proposal.best(i)] - proposal.scores[i, token])
        if not proposal.emittable[token] or behind > TIE:
            return False
    nudges = {i: TIE if i in inside else -TIE for i in proposal.places}
    stays = {
        i: token
        for i, token in proposal.standing.items()
        if float(proposal.scores[i, proposal.best(i)] - proposal.scores[i, token]) <= TIE
    }
    return set(proposal.commits(nudges, stays | inside)) == set(theirs)


def _unsure(proposal: Proposal, step: BlockCommit, decode: Decode) -> str | None:
    """A committed token whose confidence is not the oracle's, by more than sums in another order move it."""
    for position, token, confidence in zip(step.positions, step.token_ids, step.confidences, strict=True):
        expected = probability(proposal.log_odds(position - proposal.start, token))
        if abs(confidence - expected) > TIE:
            commit = f"the engine commits {decode([token])!r} at {position} with p {confidence:.6f}"
            return f"{commit}, which the oracle gives {expected:.6f}"
    return None


def _apart(proposal: Proposal, step: BlockCommit, ours: Mapping[int, int], decode: Decode) -> str:
    """What only one side commits: position, token, confidence."""
    theirs = dict(zip(step.positions, step.token_ids, strict=True))
    confidences = dict(zip(step.positions, step.confidences, strict=True))

    def probability_of(position: int) -> float:
        return probability(proposal.log_odds(position - proposal.start, ours[position]))

    def words(tokens: Mapping[int, int], other: Mapping[int, int], p: Callable[[int], float]) -> str:
        apart = [i for i in sorted(tokens) if other.get(i) != tokens[i]]
        shown = [f"{decode([tokens[i]])!r} at {i} (p {p(i):.6f})" for i in apart[:NUM_SHOWN]]
        more = len(apart) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "") or "nothing else"

    engine, oracle = words(theirs, ours, confidences.__getitem__), words(ours, theirs, probability_of)
    return f"the engine commits {engine}, the oracle {oracle}"


def _sum(kind: str, name: str, params: DecodingParams, checked: Sequence[Checked]) -> Exactness:
    differences = [f"answer {i}, {c.difference}" for i, c in enumerate(checked) if c.difference]
    return Exactness(
        setting=name,
        kind=kind,
        n=len(checked),
        num_equal=len(checked) - len(differences),
        num_passes=sum(c.passes for c in checked),
        num_ties=sum(c.ties for c in checked),
        difference=differences[0] if differences else None,
        undefined=undefined(params),
    )
