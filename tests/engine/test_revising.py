"""Rules that overwrite tokens of the current block, take them back, or let a pass go by: rules of this test
alone. Whatever they do, a block ends within their bound, other blocks stand, and what was released never
changes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llada_exp.engine import EngineCore
from llada_exp.gate.exactness import check
from llada_exp.gate.oracle import undefined
from llada_exp.rules import RULES, Commits, Rule
from llada_exp.types import DECLARATIONS, DecodingParams
from tests.engine import test_invariance
from tests.engine.test_engine import PROMPT, always, one
from tests.toys import EOS, MASK, toy_model, toy_shifted

MODELS = [toy_model(), toy_shifted()]
QUICK = settings(max_examples=7, deadline=None, suppress_health_check=list(HealthCheck))


def thrash(candidates, rows):
    """Commits everything, then takes it all back, for ever."""
    return Commits(candidates.masked, candidates.decided, torch.ones(len(rows), dtype=torch.bool))


def revoke(candidates, rows):
    """Commits several a pass, and takes back what became unlikely (as WINO does, arXiv 2507.18578)."""
    write = candidates.masked & (candidates.ranks() < 3)
    return Commits(write, candidates.decided & (candidates.current_confidence < 0.3))


def overwrite(candidates, rows):
    """Commits one a pass and overwrites what it would say otherwise by now; goes on while that happens (as
    LLaDA2.1 does)."""
    better = candidates.decided & (candidates.token_ids != candidates.current) & (candidates.confidence > 0.1)
    return Commits(candidates.masked & (candidates.ranks() == 0) | better, stay=better.any(dim=1))


def every_third(candidates, rows):
    """A schedule that commits in every third pass alone."""
    now = torch.tensor([[row.block_step % 3 == 2] for row in rows])
    return Commits(candidates.masked & now & (candidates.ranks() < 2))


def twice(row):
    return 2 * row.block_masks


TEST_RULES = {
    "thrash": Rule(thrash, revises=True, max_passes=lambda row: row.block_masks + 3),
    "revoke": Rule(revoke, revises=True, max_passes=twice),
    "overwrite": Rule(overwrite, revises=True, max_passes=twice),
    "idle": Rule(lambda candidates, rows: Commits(torch.zeros_like(candidates.masked)), max_passes=twice),
    "every_third": Rule(every_third, max_passes=twice),
}
REVISING = [name for name, rule in TEST_RULES.items() if rule.revises]


@pytest.fixture(autouse=True, scope="module")
def test_rules():
    with pytest.MonkeyPatch.context() as patch:
        names = (*DECLARATIONS["rule"].choices, *TEST_RULES)
        patch.setitem(DECLARATIONS, "rule", replace(DECLARATIONS["rule"], choices=names))
        for name, rule in TEST_RULES.items():
            patch.setitem(RULES, name, rule)
        yield


def bound(request):
    state = test_invariance.build([test_invariance.Work(request, request.plan)], SPECIAL, DEVICE).rows[0]
    return RULES[request.params.rule].max_passes(state)


SPECIAL, DEVICE = MODELS[0].special, MODELS[0].device


def run(model, jobs, batch_size=4, budget=None):
    """Outputs, with the laws held at every step."""
    engine = EngineCore(model, batch_size=batch_size, max_positions=budget)
    for number, (prompt, params) in enumerate(jobs):
        engine.add_request(prompt, params, request_id=str(number))
    outputs, released = {}, {}
    while engine.has_work():
        before = {}
        for name, request in engine._requests.items():
            assert request.block_step < bound(request) + request.layout.shift, "a block ends within the bound"
            before[name] = request, request.canvas.copy(), request.plan.start, request.plan.end
        for item in engine.step():
            released[item.request_id] = released.get(item.request_id, ()) + item.token_ids
            if item.output:
                outputs[item.request_id] = item.output
        for request, canvas, start, end in before.values():
            start, end = max(0, start) + request.prompt_length, end + request.prompt_length
            assert (request.canvas[:start] == canvas[:start]).all(), "finished blocks and the prompt stand"
            assert (request.canvas[end:] == canvas[end:]).all(), "later blocks wait"
    for name, output in outputs.items():
        assert released.get(name, ()) == output.token_ids, "what was released never changed"
    return [outputs[str(number)] for number in range(len(jobs))]


@st.composite
def params(draw):
    rule = draw(st.sampled_from([*TEST_RULES, *TEST_RULES, *RULES]))
    return replace(draw(test_invariance.params()), rule=rule, trace=True)


def bits(output):
    return output.token_ids, output.finish_reason, output.nfe, output.num_positions, [
        (c.positions, c.token_ids, c.confidences, c.remasked) for c in output.trace
    ]  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=["full", "shifted"])
@QUICK
@given(st.data())
def test_every_rule_ends_within_its_bound_with_a_whole_answer_whatever_its_company(model, data):
    """All registered rules, and those above, in mixed batches with all caches; bit by bit as alone."""
    jobs = data.draw(st.lists(st.tuples(test_invariance.prompts, params()), min_size=1, max_size=6))
    together = run(model, jobs, data.draw(st.integers(2, 5)), data.draw(st.integers(40, 400)))
    for job, output in zip(jobs, together, strict=True):
        assert bits(run(model, [job])[0]) == bits(output)
        own = job[1]
        if own.ban_ids:
            assert MASK not in output.token_ids
        if own.ignore_eos:
            assert len(output.token_ids) == own.max_tokens
        assert len(output.trace) == output.nfe, "a pass that commits nothing counts, and is told"
        assert {c.step for c in output.trace} == set(range(output.nfe))


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
@pytest.mark.parametrize("rule", REVISING)
def test_a_trace_replays_to_the_answer_and_revisions_happen(rule, cache):
    """Prevents tests of revision in which nothing is revised."""
    own = DecodingParams(max_tokens=24, block_length=8, rule=rule, cache=cache, ignore_eos=True, trace=True)
    (output,) = run(MODELS[0], [(PROMPT, own)])
    canvas, revisions = [MASK] * 24, 0
    for step in output.trace:
        assert all(canvas[place] != MASK for place in step.remasked), "only a token can be taken back"
        revisions += len(step.remasked) + sum(canvas[place] != MASK for place in step.positions)
        for place in step.remasked:
            canvas[place] = MASK
        for place, token in zip(step.positions, step.token_ids, strict=True):
            canvas[place] = token
    assert tuple(canvas) == output.token_ids
    assert revisions


def test_a_block_that_is_full_stays_open_while_its_rule_says_so():
    (output,) = run(MODELS[0], [(PROMPT, DecodingParams(max_tokens=8, block_length=8, rule="thrash"))])
    assert output.nfe == 8 + 3, "until the bound"


@pytest.mark.parametrize("rule", REVISING)
def test_text_is_released_by_whole_blocks(rule):
    """A token that may be taken back must not reach the client, nor a stop string made of such tokens end the
    answer."""
    seen = []

    def find_stop(ids):
        seen.append(len(ids))
        return 12 if len(ids) >= 12 else None

    own = DecodingParams(max_tokens=24, block_length=8, rule=rule)
    output = one(own, model=always(7), find_stop=find_stop)
    assert (output.token_ids, output.finish_reason) == ((7,) * 12, "stop")
    assert set(seen) == {8, 16}


@pytest.mark.parametrize("rule", REVISING)
def test_an_end_counts_when_its_block_is_finished_even_with_early_eos(rule):
    own = DecodingParams(max_tokens=24, block_length=8, rule=rule)
    output = one(own, model=always(EOS, at=2))
    assert (output.token_ids, output.finish_reason) == ((7, 7, EOS), "stop")
    assert output.nfe == one(replace(own, early_eos=False), model=always(EOS, at=2)).nfe


def test_a_rule_that_commits_nothing_ends_with_all_masks_at_once():
    own = DecodingParams(max_tokens=8, block_length=8, rule="idle", trace=True)
    (output,) = run(MODELS[0], [(PROMPT, own)])
    assert [len(step.positions) for step in output.trace] == [0] * 15 + [8]


def test_a_schedule_may_let_passes_go_by():
    own = DecodingParams(max_tokens=6, block_length=6, rule="every_third", trace=True, ignore_eos=True)
    (output,) = run(MODELS[0], [(PROMPT, own)])
    assert [len(step.positions) for step in output.trace] == [0, 0, 2, 0, 0, 2, 0, 0, 2]


def test_a_rule_that_may_not_revise_and_does_is_stopped(monkeypatch):
    monkeypatch.setitem(RULES, "fixed", replace(RULES["fixed"], select=revoke_all))
    with pytest.raises(AssertionError):
        run(MODELS[0], [(PROMPT, DecodingParams(max_tokens=8, block_length=8))])


def revoke_all(candidates, rows):
    return Commits(candidates.masked & (candidates.ranks() == 0), ~candidates.masked)


def test_rows_of_other_rules_pay_nothing_beside_one_that_revises():
    """Logits are taken at masked positions alone, but for the row that revises."""
    fixed = DecodingParams(max_tokens=8, block_length=8, ignore_eos=True)
    for rule, rows in (("fixed", sum(range(1, 9))), ("overwrite", None)):
        engine = EngineCore(MODELS[0])
        engine.add_request(PROMPT, replace(fixed, rule=rule))
        while engine.has_work():
            engine.step()
        stats = engine.stats()
        assert stats["num_logit_rows"] == (rows or 8 * stats["num_nfe"])


def test_the_oracle_says_that_it_does_not_define_such_a_rule_and_the_check_names_what_is_revised():
    own = DecodingParams(max_tokens=8, block_length=8, rule="revoke", trace=True, ignore_eos=True)
    assert undefined(own).startswith("rule=revoke")
    (output,) = run(MODELS[0], [(PROMPT, own)])
    plain = replace(own, rule="threshold", threshold=0.1)
    assert "pass" in check(MODELS[0], PROMPT, plain, output, str).difference
    empty = replace(output.trace[0], positions=(), token_ids=(), confidences=())
    idle = replace(output, trace=(empty, *output.trace))
    assert "the engine commits nothing" in check(MODELS[0], PROMPT, plain, idle, str).difference
    back = replace(output, trace=(replace(output.trace[0], remasked=(3,)), *output.trace[1:]))
    assert "masks (3,) again" in check(MODELS[0], PROMPT, plain, back, str).difference
