"""Exactness: the engine's every commit is the oracle's, and the gate says where it is not."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llada_exp.caches import CACHES, Policy
from llada_exp.caches.dual import next_pass as dual
from llada_exp.engine import EngineCore
from llada_exp.engine import engine as engine_module
from llada_exp.engine.finish import finished
from llada_exp.gate import verdict
from llada_exp.gate.exactness import TIE, Exactness, check, is_tie
from llada_exp.gate.oracle import Oracle, undefined
from llada_exp.gate.verdict import Limits
from llada_exp.rules import RULES, Commits
from llada_exp.types import DecodingParams
from tests.engine.test_invariance import params, prompts
from tests.toys import BOS, EOS, toy_model

MODEL = toy_model()
GREEDY = params().map(
    lambda own: replace(
        own, temperature=0.0, remasking="low_confidence", cfg_scale=0.0, eos_confidence="allow", trace=True
    )
)


def outputs(jobs, batch_size=4):
    engine = EngineCore(MODEL, batch_size=batch_size)
    for number, (prompt, own) in enumerate(jobs):
        engine.add_request(prompt, own, request_id=str(number))
    found = {}
    while engine.has_work():
        found.update({p.request_id: p.output for p in engine.step() if p.output})
    return [found[str(number)] for number in range(len(jobs))]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(prompts, GREEDY), min_size=1, max_size=5))
def test_every_rule_cache_refresh_and_window_commits_what_the_oracle_does(jobs):
    """Random weights, prompts and parameters in one mixed batch, against one row at a time."""
    for (prompt, own), output in zip(jobs, outputs(jobs), strict=True):
        assert undefined(own) is None
        assert check(MODEL, prompt, own, output, str).difference is None, own


def one_key_too_few(cursor):
    own = dual(cursor)
    return own if own.whole else replace(own, keys=own.keys - 1)


def never_refreshed(cursor):
    return dual(replace(cursor, block_step=1) if cursor.block else cursor)


def refreshed_one_too_late(cursor):
    own = dual(cursor)
    return replace(own, start=own.start + 1) if cursor.block and not cursor.block_step else own


def three_a_step(candidates, rows):
    return Commits(candidates.masked & (candidates.ranks() < 3))


def undecayed(logits, columns, state, row, observe=RULES["credit"].observe):
    seen = observe(logits, columns, state, row)
    return replace(seen, state=seen.state / 0.8)


def bounded_with_the_largest(candidates, rows):
    """The sum of all entropies, their maximum not left out."""
    rest = candidates.evidence.masked_fill(~candidates.masked, torch.inf).sort(dim=1)
    count = (rest.values.cumsum(dim=1) <= rows[0].params.gamma).sum(dim=1, keepdim=True).clamp(min=1)
    return Commits(candidates.masked & (candidates.ranks(candidates.evidence) < count))


def the_other_divergence(logits, columns, state, row, observe=RULES["klass"].observe):
    """D(p_{t-1} || p_t)."""
    seen = observe(logits, columns, state, row)
    if state is None:
        return seen
    now, before = logits.log_softmax(-1), state[0][columns]
    moved = (before.exp() * (before - now)).sum(-1)
    settled = torch.where(moved < row.params.kl_threshold, state[1][columns] + 1, 0.0)
    return replace(seen, evidence=settled, state=(seen.state[0], state[1].index_copy(0, columns, settled)))


def whatever_has_settled(candidates, rows, select=RULES["klass"].select):
    return select(replace(candidates, evidence=candidates.evidence + 1), rows)


def cut_one_early(request):
    done = finished(request)
    return done and (done[0] - 1, done[1])


def slip(name, **changes):
    return replace(RULES[name], **changes)


KLASS = {"rule": "klass", "threshold": 0.1, "kl_threshold": 0.15, "history": 1}
SLIPS = {
    "one key too few": (CACHES, "dual", Policy(one_key_too_few), {"cache": "dual"}),
    "never refreshed": (CACHES, "dual", Policy(never_refreshed), {"cache": "dual"}),
    "refreshed one position too late": (
        CACHES, "dual", Policy(refreshed_one_too_late),
        {"cache": "dual", "refresh": "window", "refresh_window": 4},
    ),
    "more tokens than the quota": (RULES, "fixed", slip("fixed", select=three_a_step), {}),
    "more tokens than are sure enough": (
        RULES, "threshold", slip("threshold", select=three_a_step), {"rule": "threshold"}
    ),
    "credit that does not decay": (
        RULES, "credit", slip("credit", observe=undecayed), {"rule": "credit", "threshold": 0.6}
    ),
    "entropies bounded with their largest": (
        RULES, "entropy", slip("entropy", select=bounded_with_the_largest), {"rule": "entropy", "gamma": 3.0}
    ),
    "divergence the other way round": (
        RULES, "klass", slip("klass", observe=the_other_divergence), KLASS
    ),
    "settled without a history": (RULES, "klass", slip("klass", select=whatever_has_settled), KLASS),
    "an answer cut too early": (vars(engine_module), "finished", cut_one_early, {}),
}  # fmt: skip


@pytest.mark.parametrize(("where", "name", "wrong", "own"), SLIPS.values(), ids=SLIPS)
def test_a_slip_of_the_engine_is_told(where, name, wrong, own, monkeypatch):
    """Prevents an oracle that agrees with whatever the engine does: each of these was tried on it."""
    params = DecodingParams(max_tokens=32, block_length=8, ignore_eos=True, trace=True, **own)
    jobs = [([BOS, *range(start, start + 9)], params) for start in range(0, 40, 10)]

    def differences():
        found = outputs(jobs)
        return [check(MODEL, *job, output, str).difference for job, output in zip(jobs, found, strict=True)]

    assert differences() == [None] * 4
    monkeypatch.setitem(where, name, wrong)
    assert any(differences())


@pytest.fixture
def answer():
    prompt, own = [BOS, 1, 2, 3], DecodingParams(max_tokens=16, block_length=8, trace=True)
    return prompt, own, outputs([(prompt, own)])[0]


def test_what_is_not_the_oracles_is_named(answer):
    """Prevents a gate that is green whatever it is shown."""
    prompt, own, output = answer
    assert check(MODEL, prompt, own, output, str).difference is None
    step = output.trace[2]
    other = 1 + step.token_ids[0] % 50
    wrong = (*output.trace[:2], replace(step, token_ids=(other,)), *output.trace[3:])
    found = check(MODEL, prompt, own, replace(output, trace=wrong), str)
    assert (found.passes, found.ties) == (2, 0)
    place = step.positions[0]
    assert f"pass 2: the engine commits '[{other}]' at {place} (p 0." in found.difference
    assert f"the oracle '[{step.token_ids[0]}]' at {place} (p 0." in found.difference
    unsure = replace(step, confidences=(step.confidences[0] - 1e-3,))
    lower = (*output.trace[:2], unsure, *output.trace[3:])
    assert "which the oracle gives" in check(MODEL, prompt, own, replace(output, trace=lower), str).difference
    short = replace(output, token_ids=output.token_ids[:-1])
    assert "cut elsewhere" in check(MODEL, prompt, own, short, str).difference
    idle = replace(output, nfe=output.nfe + 1)
    assert "nfe is" in check(MODEL, prompt, own, idle, str).difference


def test_a_later_block_or_a_decided_position_is_no_tie(answer):
    prompt, own, output = answer
    oracle = Oracle(MODEL, prompt, own)
    first = output.trace[0]
    proposal = oracle.propose()
    assert is_tie(proposal, dict(zip(first.positions, first.token_ids, strict=True)))
    assert not is_tie(proposal, {12: 5})
    assert not is_tie(proposal, {})


def test_only_what_is_closer_than_the_tolerance_is_a_tie(answer):
    prompt, own, _ = answer
    proposal = Oracle(MODEL, prompt, own).propose()
    ((place, _),) = proposal.commits().items()
    runner_up = next(i for i in proposal.open if i != place)
    theirs = {runner_up: proposal.best(runner_up)}
    assert not is_tie(proposal, theirs)
    for gap, tie in ((TIE / 2, True), (10 * TIE, False)):
        scores = proposal.scores.clone()
        scores[place] = scores[runner_up]
        scores[place, proposal.best(runner_up)] += gap
        scores[[i for i in proposal.open if i not in (place, runner_up)]] = 0.0
        assert is_tie(replace(proposal, scores=scores), theirs) == tie


def test_an_answer_ends_with_its_first_end():
    own = DecodingParams(max_tokens=4, block_length=4)
    oracle = Oracle(MODEL, [BOS], own)
    oracle.commit({0: 7, 1: EOS})
    assert oracle.answer() == [7, EOS], "what comes after cannot change it"
    oracle = Oracle(MODEL, [BOS], own)
    oracle.commit({1: EOS})
    assert oracle.answer() is None
    oracle.commit({0: 1, 2: 2, 3: 3})
    assert oracle.answer() == [1, EOS]


def test_one_answer_that_differs_fails_the_gate():
    found = Exactness("dual", "short", 8, 7, 100, 0, "answer 3, pass 5: ...")
    said = verdict.exact_verdict(found)
    assert said.word == verdict.FAIL
    assert "7 of 8" in said.why
    assert "answer 3, pass 5" in said.why
    assert verdict.exact_verdict(Exactness("dual", "short", 8, 8, 100, 2)).word == verdict.PASS
    assert (
        verdict.verdicts([], [Exactness("random", "short", 0, 0, 0, 0, None, "remasking=random")], Limits())
        == []
    )
