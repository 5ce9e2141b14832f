"""Log-probabilities are those of the pass that committed the token, whatever the rule, cache and company."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llada_exp.engine import EngineCore
from llada_exp.gate.oracle import Oracle
from llada_exp.rules import RULES
from llada_exp.types import CACHES, DecodingParams
from tests.engine import test_invariance
from tests.engine.test_engine import MODEL, PROMPT, one
from tests.engine.test_revising import TEST_RULES, test_rules  # noqa: F401
from tests.toys import EOS, EOT, MASK, NUM_EMITTABLE, toy_block_causal, toy_shifted

QUICK = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
ASK = DecodingParams(max_tokens=20, block_length=8, ignore_eos=True, logprobs=4, trace=True)
FIELDS = [
    *({"rule": rule, "cache": cache} for rule in RULES for cache in CACHES),
    {"rule": "threshold", "threshold": 0.1, "suffix_window": 3},
    {"canvas": "grow", "tokens_per_step": 3, "rule": "fixed"},
    {"ban_ids": False},
]


@pytest.mark.parametrize("model", [MODEL, toy_shifted(), toy_block_causal()], ids=["full", "shift", "blocks"])
@pytest.mark.parametrize("fields", FIELDS, ids=lambda f: "-".join(map(str, f.values())))
def test_they_are_the_oracles_at_the_pass_that_committed(model, fields):
    """Float64 log-softmax of a plain float32 decoder that shares no packing, candidates or caches."""
    own = replace(ASK, **fields)
    if model.visibility.kind != "full":
        own = replace(own, cache="none", suffix_window=None)
    output = one(own, model=model)
    oracle, expected = Oracle(model, PROMPT, own), {}
    for step in output.trace:
        proposal = oracle.propose()
        start = len(oracle.row) - len(oracle.decided)
        for position in step.positions:
            expected[position] = proposal.scores[position - proposal.start].log_softmax(0)
        oracle.commit(dict(zip(step.positions, step.token_ids, strict=True)))
        assert start == len(PROMPT)
    assert [entry.token_id for entry in output.logprobs] == list(output.token_ids)
    for position, entry in enumerate(output.logprobs):
        scores = expected[position]
        assert entry.logprob == pytest.approx(scores[entry.token_id].item(), abs=1e-4)
        if own.ban_ids:
            scores[NUM_EMITTABLE:] = scores[MASK] = -math.inf
        best = scores.topk(4)
        assert [value for _, value in entry.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert all(value == pytest.approx(scores[i].item(), abs=1e-4) for i, value in entry.top)


HOT = {"temperature": 1.5, "top_p": 0.9, "top_k": 9, "seed": 3}


@pytest.mark.parametrize("fields", [HOT, {"cfg_scale": 2.0}, HOT | {"rule": "credit", "cfg_scale": 0.5}])
def test_they_are_of_the_clean_distribution_by_which_a_rule_judges(fields):
    output = one(replace(ASK, **fields))
    trace = {p: c for step in output.trace for p, c in zip(step.positions, step.confidences, strict=True)}
    for position, entry in enumerate(output.logprobs):
        assert math.exp(entry.logprob) == pytest.approx(trace[position], rel=1e-4)
    assert any(entry.token_id != entry.top[0][0] for entry in output.logprobs) == ("temperature" in fields)


@pytest.mark.parametrize("rule", TEST_RULES)
def test_a_token_that_is_overwritten_has_those_of_its_last_commit(rule, test_rules):  # noqa: F811
    output = one(replace(ASK, rule=rule))
    last = {p: c for step in output.trace for p, c in zip(step.positions, step.confidences, strict=True)}
    for position, entry in enumerate(output.logprobs):
        assert math.exp(entry.logprob) == pytest.approx(last[position], rel=1e-4)


def test_what_can_never_be_chosen_is_no_alternative():
    for own in (replace(ASK, logprobs=20), replace(ASK, logprobs=20, eos_confidence="forbid")):
        ids = {i for entry in one(own).logprobs for i, _ in entry.top}
        assert not ids & {MASK, *range(NUM_EMITTABLE, 72)}
        assert bool(ids & {EOS, EOT}) == (own.eos_confidence == "allow")
    free = one(replace(ASK, logprobs=20, ban_ids=False))
    assert {i for entry in free.logprobs for i, _ in entry.top} & {MASK, *range(NUM_EMITTABLE, 72)}


def test_none_are_made_where_nobody_asks(monkeypatch):
    monkeypatch.setattr("llada_exp.engine.logprobs._scores", None)
    copies = []

    def clone(tensor, real=torch.Tensor.clone):
        copies.append(tensor.shape[-1])
        return real(tensor)

    monkeypatch.setattr(torch.Tensor, "clone", clone)
    output = one(replace(ASK, logprobs=None))
    assert output.logprobs == ()
    assert set(copies) <= {1}, "no distribution is copied"


def drained(jobs, batch_size, budget):
    engine = EngineCore(MODEL, batch_size=batch_size, max_positions=budget)
    for number, (prompt, own) in enumerate(jobs):
        engine.add_request(prompt, own, request_id=str(number))
    outputs, released = {}, {}
    while engine.has_work():
        for item in engine.step():
            assert len(item.logprobs) in (0, len(item.token_ids))
            released[item.request_id] = released.get(item.request_id, ()) + item.logprobs
            if item.output:
                outputs[item.request_id] = item.output
    assert all(released[name] == output.logprobs for name, output in outputs.items())
    return [outputs[str(number)] for number in range(len(jobs))]


@QUICK
@given(st.data())
def test_they_change_no_answer_and_are_bit_equal_in_any_company(data):
    one_job = st.tuples(test_invariance.prompts, test_invariance.params(), st.sampled_from([None, 0, 3, 20]))
    drawn = data.draw(st.lists(one_job, min_size=1, max_size=6))
    jobs = [(prompt, replace(own, logprobs=n)) for prompt, own, n in drawn]
    together = drained(jobs, data.draw(st.integers(2, 5)), data.draw(st.integers(40, 400)))
    for (prompt, own), output in zip(jobs, together, strict=True):
        (alone,) = drained([(prompt, own)], 2, None)
        assert alone.logprobs == output.logprobs
        plain = test_invariance.alone(prompt, replace(own, logprobs=None))
        assert plain.token_ids == output.token_ids
        assert len(output.logprobs) == (0 if own.logprobs is None else len(output.token_ids))
