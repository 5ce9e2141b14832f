"""Shared leading blocks: computed once, by whoever is first, and never seen in an answer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from llada_exp.engine import EngineCore
from llada_exp.engine.pages import PAGE, PagePool
from llada_exp.engine.prefixes import NO_PREFIX, Prefix, PrefixIndex
from llada_exp.types import DecodingParams
from tests.toys import BOS, toy_block_causal, toy_causal_context, toy_model

MODELS = {"block_causal": toy_block_causal(), "causal_context": toy_causal_context()}
LONG = {
    "block_causal": toy_block_causal(max_length=1024),
    "causal_context": toy_causal_context(max_length=1024),
}
every_model = pytest.mark.parametrize("name", MODELS)
QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
PARAMS = DecodingParams(max_tokens=8, block_length=8, cache="prefix", ignore_eos=True, trace=True)


def prompt(prefix, question):
    """Of `prefix` ids that all have in common, and a question of its own."""
    return [BOS, *[1 + i % 50 for i in range(prefix - 1)], *[2 + i % 40 for i in question]]


def bits(output):
    return output.token_ids, output.finish_reason, output.nfe, [
        (c.positions, c.token_ids, c.confidences) for c in output.trace
    ]  # fmt: skip


def drained(engine, outputs):
    while engine.has_work():
        outputs.update({p.request_id: p.output for p in engine.step() if p.output})
    return outputs


@every_model
@QUICK
@given(st.data())
def test_answers_are_bit_equal_with_and_without_sharing(name, data):
    """Arrivals, aborts, a memory so small that prefixes are evicted: each answer is the one it gets alone."""
    jobs = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 16, 40, 90]),  # of the prefix
                st.lists(st.integers(0, 2), min_size=1, max_size=30),
                st.sampled_from([1, 4, 8, 24]),  # B
                st.integers(0, 8),  # arrival
                st.none() | st.integers(1, 9),  # abort
            ),
            min_size=2,
            max_size=7,
        )
    )
    memory = data.draw(st.sampled_from([192, 512]))
    rows, budget = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([24, 64, 8192]))
    engine = EngineCore(
        MODELS[name],
        batch_size=rows,
        max_positions=budget,
        kv_positions=memory,
    )
    outputs, step = {}, 0
    while step < 10 or engine.has_work():
        for i, (prefix, question, length, arrival, abort) in enumerate(jobs):
            if arrival == step:
                own = replace(PARAMS, block_length=length)
                engine.add_request(prompt(prefix or 1, question), own, request_id=str(i))
            if abort == step:
                engine.abort(str(i))
        outputs.update({p.request_id: p.output for p in engine.step() if p.output})
        step += 1
    assert set(outputs) >= {str(i) for i, job in enumerate(jobs) if job[4] is None}
    for i, output in outputs.items():
        prefix, question, length, _, _ = jobs[int(i)]
        lone = EngineCore(MODELS[name], batch_size=1, share_prefixes=False)
        lone.add_request(prompt(prefix or 1, question), replace(PARAMS, block_length=length), request_id=i)
        assert bits(output) == bits(drained(lone, {})[i])
    stats = engine.stats()
    assert stats["kv_positions_free"] == stats["kv_positions"], "no page is lost"


@every_model
def test_64_requests_with_one_prefix_forward_it_once(name, monkeypatch):
    """900 tokens in common and questions of at most 50, all at once; and again, later."""
    model = LONG[name]
    jobs = [prompt(900, [i + k for k in range(1 + i % 50)]) for i in range(64)]
    engine, forwarded = EngineCore(model, batch_size=64), []
    real = engine.decoder.run

    def run(requests):
        forwarded.append(sum(r.plan.row_pass.num_positions for r in requests if r.plan.stores))
        return real(requests)

    monkeypatch.setattr(engine.decoder, "run", run)
    names = [engine.add_request(ids, PARAMS) for ids in jobs]
    outputs = drained(engine, {})
    alone = sum(len(ids) // 8 * 8 if name == "block_causal" else len(ids) for ids in jobs)
    assert 900 < sum(forwarded) <= 0.1 * alone
    stats = engine.stats()
    assert stats["num_shared_prefix_blocks"] / stats["num_prefix_blocks"] > 0.9
    forwarded.clear()
    later = engine.add_request(jobs[7], PARAMS)
    outputs.update(drained(engine, {}))
    assert sum(forwarded) < 32
    lone = EngineCore(model, batch_size=1, share_prefixes=False)
    for i in (0, 7, 63):
        request_id = lone.add_request(jobs[i], PARAMS)
        expected = bits(drained(lone, {})[request_id])
        assert bits(outputs[names[i]]) == expected
        assert i != 7 or bits(outputs[later]) == expected
    assert lone.stats()["num_prefix_blocks"] == 0


def test_where_the_maker_goes_the_next_one_makes_what_it_left():
    """Prevents followers that wait for ever for a request that was aborted, or failed."""
    model = MODELS["block_causal"]
    engine = EngineCore(model, batch_size=4, max_positions=16)
    names = [engine.add_request(prompt(80, [i]), PARAMS) for i in range(3)]
    engine.step()
    engine.step()
    engine.abort(names[0])
    outputs = drained(engine, {})
    assert set(outputs) == set(names[1:])
    lone = EngineCore(model, batch_size=1, share_prefixes=False)
    expected = lone.add_request(prompt(80, [1]), PARAMS)
    assert bits(outputs[names[1]]) == bits(drained(lone, {})[expected])


def test_a_guided_request_and_a_model_that_sees_its_suffix_share_nothing():
    for model, own in (
        (MODELS["block_causal"], replace(PARAMS, cfg_scale=1.0)),
        (MODELS["block_causal"], replace(PARAMS, cache="none")),
        (toy_model(), PARAMS),
    ):
        engine = EngineCore(model, batch_size=4)
        for _ in range(2):
            engine.add_request(prompt(80, [1]), own)
        drained(engine, {})
        assert engine.stats()["num_prefix_blocks"] == 0


def test_keys_tell_ids_block_lengths_and_what_stands_before():
    ids = np.arange(96)
    keys = Prefix.of(ids, 8).keys
    assert len(keys) == 6
    assert Prefix.of(ids[:95], 8).keys == keys[:5]
    assert not set(Prefix.of(ids, 4).keys) & set(keys), "the same ids in other blocks"
    changed = ids.copy()
    changed[0] = 7
    assert not set(Prefix.of(changed, 8).keys) & set(keys)
    assert Prefix.of(ids, 24).unit == 48
    assert Prefix.of(ids[:10], 8).keys == ()


def test_the_unit_that_was_held_last_is_evicted_last_and_tails_go_first():
    pool = PagePool(8)
    index = PrefixIndex(pool)
    old, new = (Prefix.of(np.arange(start, start + 3 * PAGE), 8) for start in (0, 100))
    for name, prefix in (("a", old), ("b", new)):
        assert len(index.take(name, prefix, 3)) == 3
        assert index.proceed(name, 0) == 0
        index.complete(name, 3 * PAGE)
    for name in "ab":
        index.release(name)
    assert (pool.num_free, index.num_idle_pages) == (2, 6)
    assert index.take("c", NO_PREFIX, 4) is not None
    assert (pool.num_free, index.num_idle_pages) == (0, 4), "as few as needed"
    assert index.take("d", old, 3) is not None
    assert index.proceed("d", 0) == PAGE, "its head is left"
    assert index.take("e", NO_PREFIX, 5) is None, "more than there is"
    assert index.num_idle_pages == 1


@pytest.mark.parametrize("exact", [True, False])
def test_a_request_that_keeps_nothing_shares_nothing(exact):
    """Prevents a row of the device path, which has pages all the same, from writing into those of others."""
    engine = EngineCore(MODELS["block_causal"], batch_size=4, exact=exact)
    for _ in range(2):
        engine.add_request(prompt(40, [1]), replace(PARAMS, cache="none"))
    drained(engine, {})
    assert engine.stats()["num_prefix_blocks"] == 0
