"""A row whose pass fails does so alone, whatever it fails of: its mates' answers stay what they are."""

import itertools

import numpy as np
import pytest
import torch

from llada_exp.engine import EngineCore
from llada_exp.engine import errors as errors_module
from llada_exp.engine.errors import DeviceLostError, DoesNotFitError, NotFiniteError, check_device
from llada_exp.engine.likelihood import Likelihood
from llada_exp.engine.logprobs import Distributions
from llada_exp.engine.scheduler import GROW_AFTER, Scheduler
from llada_exp.types import DecodingParams
from tests.engine.test_engine import MODEL, PROMPT, always, one
from tests.engine.test_engine import run as run_to_end
from tests.toys import EOS, SPECIAL, toy_module

GUILTY = 33
"""A token whose row fails."""
MATES = [
    DecodingParams(max_tokens=16, block_length=8, ignore_eos=True, cache=cache, rule=rule, **more)
    for cache, rule, more in (
        ("none", "fixed", {"temperature": 0.7, "seed": 5}), ("dual", "credit", {}), ("prefix", "klass", {}),
        ("dual", "entropy", {"remasking": "random"}), ("dual", "fixed", {"cfg_scale": 1.0}),
        ("prefix", "threshold", {"threshold": 0.1}), ("dual", "credit", {"eos_confidence": "last"}),
    )
]  # fmt: skip
BAD = DecodingParams(max_tokens=16, block_length=8, ignore_eos=True, cache="dual")
ERRORS = [
    torch.OutOfMemoryError("too much"),
    MemoryError(),
    RuntimeError("a kernel failed"),
    AssertionError(),
]
ERRORS += [RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory")]


def drained(engine):
    outputs, failures = {}, {}
    while engine.has_work():
        for item in engine.step(failures.__setitem__):
            if item.output:
                outputs[item.request_id] = item.output.token_ids
    return outputs, failures


def fails_for_guilty(monkeypatch, engine, error, after=0):
    """The pass of a step with the guilty token raises, after it has written all rows' K/V."""
    real, calls = engine.decoder.model.hidden, []

    def hidden(ids, positions, attend, rows=None):
        out = real(ids, positions, attend, rows)
        if (ids == GUILTY).any():
            calls.append(len(ids))
            if len(calls) > after:
                raise error
        return out

    monkeypatch.setattr(engine.decoder.model, "hidden", hidden)
    return calls


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: f"{type(e).__name__} {e}"[:30])
@pytest.mark.parametrize("after", [0, 1])
def test_a_row_that_always_fails_fails_alone(monkeypatch, error, after):
    """Prevents one client's request from ending those of seven others."""
    expected = [one(params).token_ids for params in MATES]
    engine = EngineCore(MODEL, batch_size=10)
    calls = fails_for_guilty(monkeypatch, engine, error, after)
    mates = [engine.add_request(PROMPT, params) for params in MATES[:4]]
    guilty = engine.add_request([*PROMPT, GUILTY], BAD)
    mates += [engine.add_request(PROMPT, params) for params in MATES[4:]]
    outputs, failures = drained(engine)
    assert [outputs[name] for name in mates] == expected
    assert list(failures) == [guilty]
    if errors_module.is_out_of_memory(error):
        assert isinstance(failures[guilty], DoesNotFitError)
        assert "ran alone" in str(failures[guilty])
    else:
        assert failures[guilty] is error
    assert len(calls) <= after + 5, "eight rows are halved three times"
    assert engine.scheduler.max_positions == 2048, "a row that fits nowhere says nothing of the budget"
    assert engine.stats()["num_failed"] == 1
    assert not engine.decoder.kv
    assert engine.stats()["kv_positions_free"] == engine.stats()["kv_positions"]


def test_without_a_listener_a_failure_is_raised_and_nothing_has_changed(monkeypatch):
    engine = EngineCore(MODEL, batch_size=4)
    names = [engine.add_request(p, BAD) for p in (PROMPT, [*PROMPT, GUILTY])]
    with monkeypatch.context() as patch:
        fails_for_guilty(patch, engine, RuntimeError("a kernel failed"))
        with pytest.raises(RuntimeError, match="a kernel failed"):
            engine.step()
    outputs, _ = run_to_end(engine)
    assert [outputs[n].token_ids for n in names] == [
        one(BAD, p).token_ids for p in (PROMPT, [*PROMPT, GUILTY])
    ]


def test_a_step_that_raises_after_its_rules_have_looked_is_run_again_as_if_they_had_not(monkeypatch):
    """Prevents a state (credit, history) that has seen the same logits twice."""
    engine, names = EngineCore(MODEL, batch_size=10), []
    expected = [one(params).token_ids for params in MATES]
    real, fails = Distributions.score, itertools.cycle([True, False, False])

    def score(self, requests, *rest):
        if len(requests) > 1 and next(fails):
            raise RuntimeError("no memory for log-probabilities")
        return real(self, requests, *rest)

    monkeypatch.setattr(Distributions, "score", score)
    names = [engine.add_request(PROMPT, params) for params in MATES]
    outputs, failures = drained(engine)
    assert not failures
    assert [outputs[name] for name in names] == expected


def test_what_raises_after_the_pass_fails_alone_too():
    """A stop string's search runs in the text layer, on what was committed."""

    def find_stop(ids):
        raise KeyError("no such piece")

    engine = EngineCore(MODEL, batch_size=2)
    guilty = engine.add_request(PROMPT, BAD, find_stop=find_stop)
    mate = engine.add_request(PROMPT, BAD)
    outputs, failures = drained(engine)
    assert outputs == {mate: one(BAD).token_ids}
    assert list(failures) == [guilty]


def test_a_lowered_budget_grows_back_and_more_slowly_where_that_was_too_much():
    scheduler = Scheduler(4, 8192)
    scheduler.lower_budget(1000)
    budgets = []
    for _ in range(4):
        for _ in range(GROW_AFTER):
            assert scheduler.max_positions < 8192
            scheduler.count_whole_step()
        budgets.append(scheduler.max_positions)
    assert budgets == [2000, 4000, 8000, 8192]
    scheduler.lower_budget(1000)
    for _ in range(GROW_AFTER):
        scheduler.count_whole_step()
    scheduler.lower_budget(1999)
    for _ in range(2 * GROW_AFTER - 1):
        scheduler.count_whole_step()
    assert scheduler.max_positions == 1999
    scheduler.count_whole_step()
    assert scheduler.max_positions == 3998
    scheduler.lower_budget(0)
    assert scheduler.max_positions == 1


def test_after_a_lone_want_of_memory_many_rows_share_a_step_again(monkeypatch):
    engine = EngineCore(MODEL, batch_size=4, max_positions=128)
    real, lacks = engine.decoder.model.hidden, [True]

    def hidden(ids, positions, attend, rows=None):
        if lacks and len(ids) > 16:
            lacks.clear()
            raise torch.OutOfMemoryError("another process took it")
        return real(ids, positions, attend, rows)

    monkeypatch.setattr(engine.decoder.model, "hidden", hidden)
    for _ in range(16):
        engine.add_request(PROMPT, DecodingParams(max_tokens=24, block_length=8, ignore_eos=True))
    assert drained(engine)[1] == {}
    assert not lacks
    assert engine.stats()["num_out_of_memory"] == 1
    assert engine.scheduler.max_positions == 128


def poisoned(token=GUILTY):
    """A model with NaN in one embedding."""
    module = toy_module()
    module.model.transformer.wte.weight[token] = torch.nan
    return module.config.ready(module, SPECIAL)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("bad", MATES, ids=lambda p: f"{p.rule}-{p.cache}")
def test_nan_fails_its_row_and_is_not_left_to_the_next(bad, exact):
    """What a mask hides is still multiplied: NaN in a freed slot would reach the row that gets it."""
    model = poisoned()
    expected = [one(params, model=model).token_ids for params in MATES]
    engine = EngineCore(model, batch_size=4, exact=exact)
    guilty = [engine.add_request([*PROMPT, *[GUILTY] * 40], bad) for _ in range(2)]
    mates = [engine.add_request(PROMPT, params) for params in MATES]
    outputs, failures = drained(engine)
    assert sorted(failures) == sorted(guilty)
    assert all(isinstance(error, NotFiniteError) for error in failures.values())
    assert "not finite" in str(failures[guilty[0]])
    assert len(outputs) == len(mates)
    assert not exact or [outputs[name] for name in mates] == expected


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("params", [*MATES, DecodingParams(max_tokens=8, block_length=8, temperature=1.0)])
def test_weights_that_are_not_finite_are_an_error_with_words(value, params):
    module = toy_module()
    module.model.transformer.ff_out.weight[:] = value
    engine = EngineCore(module.config.ready(module, SPECIAL), batch_size=2)
    engine.add_request(PROMPT, params)
    outputs, failures = drained(engine)
    assert not outputs
    (error,) = failures.values()
    assert isinstance(error, NotFiniteError)


def test_minus_infinity_for_some_ids_is_a_model_that_never_says_them():
    model = always(EOS - 5)
    real = model.head
    model.head = lambda hidden: real(hidden).index_fill(1, torch.tensor([1, 2, 3]), -torch.inf)
    assert set(one(BAD, model=model).token_ids) == {EOS - 5}


def test_a_likelihood_of_nan_is_an_error_and_no_score():
    likelihood = Likelihood(poisoned(), num_samples=2)
    assert np.isfinite(likelihood.estimate([(PROMPT, [7])])[0].value)
    with pytest.raises(NotFiniteError):
        likelihood.estimate([(PROMPT, [7]), ([*PROMPT, GUILTY], [7])])


def test_a_lost_device_is_told_from_a_row_that_fails(monkeypatch):
    """A device-side assert answers every later call with the same error; only a new process helps."""
    cuda, synchronized = torch.device("cuda"), []
    monkeypatch.setattr(torch.cuda, "synchronize", synchronized.append)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: torch.tensor(1.0))
    check_device(cuda, RuntimeError("a row's own"))
    assert synchronized == [cuda]

    def broken(device):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    with pytest.raises(DeviceLostError, match="device-side assert"):
        check_device(cuda, RuntimeError("index out of range"))
