"""What an engine refuses, and what it survives: bad prompts, aborts, steps that run out of memory."""

from dataclasses import replace

import pytest
import torch

from llada_exp.engine import EngineCore
from llada_exp.types import DecodingParams
from tests.engine.test_engine import MODEL, PROMPT, one, run
from tests.toys import MASK


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the prompt is empty"),
        ([5, 72], "from 0 to 71"),
        ([5, -1], "from 0 to 71"),
        ([5, MASK], "token 1 of the prompt is .* no mask token"),
        ([5, 2**63], "token 1 of the prompt is 9223372036854775808; expected a token id from 0 to 71"),
        ([5, -(10**30)], "token 1 of the prompt is"),
        ([5, 2.0], "token 1 of the prompt is 2.0"),
        ([True], "token 0 of the prompt is True"),
        (["a"], "token 0 of the prompt is 'a'"),
        ([[5], [5, 5]], "no list of token ids"),
        ([5] * 400, "maximum context length is 512 tokens"),
    ],
)
def test_a_bad_prompt_is_refused_before_it_is_queued(prompt, message):
    engine = EngineCore(MODEL)
    with pytest.raises(ValueError, match=message):
        engine.add_request(prompt, DecodingParams(max_tokens=128))
    assert not engine.has_work()


def test_a_request_id_in_use_is_refused():
    engine = EngineCore(MODEL)
    engine.add_request(PROMPT, DecodingParams(), request_id="x")
    with pytest.raises(ValueError, match="'x' is in use"):
        engine.add_request(PROMPT, DecodingParams(), request_id="x")


def test_abort_frees_the_row_at_any_time_and_leaves_neighbours_alone():
    params = DecodingParams(max_tokens=16, block_length=8, ignore_eos=True)
    alone = one(params).token_ids
    engine = EngineCore(MODEL, batch_size=2)
    waiting = [engine.add_request(PROMPT, params) for _ in range(3)]
    engine.step()
    assert not engine.has_capacity()
    assert engine.abort(waiting[0])
    assert not engine.abort(waiting[0])
    outputs, _ = run(engine)
    assert {outputs[name].token_ids for name in waiting[1:]} == {alone}
    assert engine.has_capacity(2)
    assert engine.stats()["num_aborted"] == 1


def test_stats_count_the_work():
    engine = EngineCore(MODEL, batch_size=4)
    for _ in range(4):
        engine.add_request(PROMPT, DecodingParams(max_tokens=8, block_length=8, steps=2, ignore_eos=True))
    run(engine)
    stats = engine.stats()
    assert stats["num_steps"] == 2
    assert stats["num_nfe"] == 8
    assert stats["batch_size_histogram"] == {4: 2}
    assert stats["num_output_tokens"] == 32
    # rows of 13 positions, packed to 64: 8 then 4 masks useful in each of four rows
    assert stats["num_positions"] == 2 * 64
    assert stats["useful_position_ratio"] == pytest.approx(4 * (8 + 4) / 128)
    assert stats["packing_efficiency"] == pytest.approx(52 / 64)


def test_a_step_out_of_memory_is_split_and_no_request_is_lost(monkeypatch):
    params = [
        DecodingParams(max_tokens=16, block_length=8, ignore_eos=True, cache=cache, rule=rule)
        for cache, rule in (("none", "fixed"), ("dual", "credit"), ("prefix", "threshold"), ("dual", "fixed"))
    ]
    expected = [one(own).token_ids for own in params]
    engine = EngineCore(MODEL, batch_size=4)
    names = [engine.add_request(PROMPT, own) for own in params]
    real, calls = engine.decoder.model.hidden, []

    def hidden(ids, positions, attend, wanted=None):
        calls.append(len(ids))
        if len(ids) > 32:
            real(ids, positions, attend, wanted)  # the failing pass has already written K/V
            raise torch.OutOfMemoryError("too much")
        return real(ids, positions, attend, wanted)

    monkeypatch.setattr(engine.decoder.model, "hidden", hidden)
    before = engine.scheduler.max_positions
    outputs, _ = run(engine)
    assert [outputs[name].token_ids for name in names] == expected
    assert engine.stats()["num_out_of_memory"] >= 1
    assert engine.scheduler.max_positions < before
    assert sum(n > 32 for n in calls) <= 4, "the budget learns: it does not fail at every step"


def test_one_row_out_of_memory_is_an_error_and_the_engine_goes_on(monkeypatch):
    engine = EngineCore(MODEL)
    engine.add_request(PROMPT, DecodingParams(max_tokens=8, block_length=8))

    def hidden(ids, positions, attend, wanted=None):
        raise torch.OutOfMemoryError("too much")

    with monkeypatch.context() as patch:
        patch.setattr(engine.decoder.model, "hidden", hidden)
        with pytest.raises(torch.OutOfMemoryError):
            engine.step()
    assert engine.abort_all()
    assert one(DecodingParams(max_tokens=8, block_length=8)).token_ids


def test_lockstep_gives_the_same_answers_in_whole_batches():
    params = DecodingParams(max_tokens=16, block_length=8, cache="dual", ignore_eos=True)
    shorter = replace(params, max_tokens=8)
    expected = one(params).token_ids, one(shorter).token_ids
    engine = EngineCore(MODEL, batch_size=2, scheduling="lockstep")
    names = [engine.add_request(PROMPT, own) for own in (params, shorter, params, shorter)]
    outputs, _ = run(engine)
    assert [outputs[name].token_ids for name in names] == [*expected, *expected]
    assert engine.stats()["batch_size_histogram"] == {1: 16, 2: 16}, "a finished row is not replaced"
