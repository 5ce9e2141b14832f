"""Other kinds of families (grouped and tied, shifted, block-causal, causal context) in mixed batches: held to
the oracle, pass by pass, and bit by bit to running alone."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from llada_exp.caches import CACHES
from llada_exp.engine import EngineCore
from llada_exp.engine.likelihood import Likelihood
from llada_exp.fields import ContextLengthError
from llada_exp.gate.exactness import check
from llada_exp.gate.oracle import undefined
from llada_exp.models.attention import sdpa
from llada_exp.models.base import Visibility
from llada_exp.types import RULES, DecodingParams
from tests.toys import (
    BOS,
    MASK,
    toy_block_causal,
    toy_causal_context,
    toy_experts,
    toy_grouped,
    toy_model,
    toy_shifted,
)


def seeing(kind, **facts):
    return replace(toy_block_causal(), visibility=Visibility(kind, 8, **facts))


MODELS = {
    "full": toy_model(),
    "grouped": toy_grouped(),
    "experts": toy_experts(),
    "shifted": toy_shifted(),
    "block_causal": toy_block_causal(),
    "causal_context": toy_causal_context(),
    "own_pass": seeing("block_causal", context="alone", stops="after", caps_steps=True),
    "block_context": seeing("block_context", context="alone"),
    "seeds": seeing("causal_context", context="seeds", stops="on_commit"),
}
BY_BLOCK = [name for name, model in MODELS.items() if not model.visibility.sees_suffix]
QUICK = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # shrinking a mixed batch takes minutes and helps nobody
)
every_model = pytest.mark.parametrize("name", MODELS)

prompts = st.lists(st.integers(0, 59), min_size=0, max_size=40).map(lambda ids: [BOS, *ids])


@st.composite
def params(draw, name):
    kind, full = MODELS[name].visibility.kind, MODELS[name].visibility.sees_suffix
    cached = {"cache": draw(st.sampled_from([c for c in CACHES if full or kind in CACHES[c].exact_for]))}
    if full and cached["cache"] != "none":
        cached["refresh"] = draw(st.sampled_from(["every_block", "window", "prompt_every"]))
    canvas = draw(st.sampled_from([{}, {}, {"canvas": "grow"}, {"suffix_window": 5}]))
    steps = draw(st.sampled_from([{}, {"steps": 9}, {"steps_per_block": 3}, {"tokens_per_step": 3}]))
    return DecodingParams(
        max_tokens=draw(st.integers(1, 24)),
        block_length=draw(st.sampled_from([None, 1, 4, 7, 32])),
        rule=draw(st.sampled_from(RULES)),
        remasking=draw(st.sampled_from(["low_confidence", "low_confidence", "topk_margin", "entropy"])),
        threshold=draw(st.sampled_from([0.0, 0.3, 0.9])),
        editing_threshold=draw(st.sampled_from([0.0, 0.1, 0.9])),
        max_post_steps=draw(st.sampled_from([0, 1, 4])),
        stop_token_ids=draw(st.sampled_from([(), (), (3, 40)])),
        refresh_window=draw(st.sampled_from([0, 3, 16])),
        ignore_eos=draw(st.booleans()),
        early_eos=draw(st.booleans()),
        trace=True,
        **cached,
        **canvas,
        **steps,
    )


def run(model, jobs, rows=16, budget=None):
    # What is shared is not forwarded again: tests/engine/test_prefixes.py.
    engine = EngineCore(model, batch_size=rows, max_positions=budget, share_prefixes=False)
    for i, (prompt, own) in enumerate(jobs):
        engine.add_request(prompt, own, request_id=str(i))
    outputs = {}
    while engine.has_work():
        outputs.update({int(p.request_id): p.output for p in engine.step() if p.output})
    return [outputs[i] for i in range(len(jobs))]


def bits(output):
    """All that an answer is; confidences are the logits' last bits."""
    return output.token_ids, output.finish_reason, output.nfe, output.store_passes, output.num_positions, [
        (c.positions, c.token_ids, c.confidences) for c in output.trace
    ]  # fmt: skip


@every_model
@QUICK
@given(st.data())
def test_a_mixed_batch_is_bit_equal_to_each_alone_and_exact_by_the_oracle(name, data):
    model = MODELS[name]
    jobs = data.draw(st.lists(st.tuples(prompts, params(name)), min_size=1, max_size=5))
    budget = data.draw(st.integers(20, 300))  # it also says in how many passes a prompt is stored
    together = run(model, jobs, rows=data.draw(st.integers(1, 7)), budget=budget)
    for (prompt, own), output in zip(jobs, together, strict=True):
        assert bits(run(model, [(prompt, own)], budget=budget)[0]) == bits(output)
        if undefined(own) is None:
            checked = check(model, prompt, own, output, str)
            assert checked.difference is None, (prompt, own)


@pytest.mark.parametrize("name", BY_BLOCK)
@QUICK
@given(st.data())
def test_a_policy_that_says_it_is_exact_answers_as_none(name, data):
    """Prevents a cache of blocks that were not finished when their K/V were kept."""
    prompt, own = data.draw(prompts), data.draw(params(name))
    exact = [cache for cache in CACHES if MODELS[name].visibility.kind in CACHES[cache].exact_for]
    plain, *cached = run(MODELS[name], [(prompt, replace(own, cache=cache)) for cache in exact])
    assert cached
    for output in cached:
        assert (output.token_ids, output.nfe) == (plain.token_ids, plain.nfe)
        assert output.num_positions <= plain.num_positions


def test_requests_of_different_block_lengths_of_one_block_causal_checkpoint_share_a_batch():
    """A request's B sets its own mask: 8 and 32 must not be the same model to it."""
    model, prompt = MODELS["block_causal"], [BOS, *range(20)]
    jobs = [(prompt, DecodingParams(max_tokens=24, block_length=b, ignore_eos=True)) for b in (8, 32, None)]
    eight, thirty_two, unnamed = run(model, jobs)
    assert eight.token_ids != thirty_two.token_ids
    named = DecodingParams(max_tokens=24, block_length=model.visibility.block_length, ignore_eos=True)
    assert unnamed.token_ids == run(model, [(prompt, named)])[0].token_ids


@pytest.mark.parametrize("name", ["block_causal", "causal_context"])
def test_a_cache_that_means_nothing_to_the_model_is_refused(name):
    with pytest.raises(ValueError, match=r"cache is 'dual'.*none or prefix"):
        run(MODELS[name], [([BOS], DecodingParams(cache="dual"))])
    with pytest.raises(ValueError, match=r"refresh is 'window'.*every_block"):
        run(MODELS[name], [([BOS], DecodingParams(cache="prefix", refresh="window"))])


def test_whole_blocks_that_pass_the_context_are_refused_in_words():
    model = MODELS["block_causal"]
    limit = model.shape.max_length
    with pytest.raises(ValueError, match=r"maximum context length is \d+ tokens.*in whole blocks of 100"):
        run(model, [([BOS], DecodingParams(max_tokens=limit - 1, block_length=100))])


@pytest.mark.parametrize(
    ("prompt", "answer", "block_length", "advice"),
    [
        (1, 8, 10**4, "Please lower block_length."),
        (1, 10**4, 8, "Please reduce the length of the prompt or max_tokens."),
        (10**4, 8, 8, "Please reduce the length of the prompt."),
    ],
)
def test_the_advice_of_a_row_that_is_too_long_helps(prompt, answer, block_length, advice):
    model = MODELS["block_causal"]
    with pytest.raises(ContextLengthError) as caught:
        run(model, [([BOS] * prompt, DecodingParams(max_tokens=answer, block_length=block_length))])
    assert str(caught.value).endswith(advice)


@pytest.mark.parametrize("block_length", [8, 24, 100])
@pytest.mark.parametrize("name", ["block_causal", "full"])
def test_the_room_that_a_refusal_names_is_all_there_is(name, block_length):
    engine = EngineCore(MODELS[name])
    for length in (1, 17, engine.max_length // 2):
        with pytest.raises(ContextLengthError) as caught:
            engine.check([BOS] * length, DecodingParams(max_tokens=10**6, block_length=block_length))
        room = caught.value.room
        engine.check([BOS] * length, DecodingParams(max_tokens=room, block_length=block_length))
        with pytest.raises(ContextLengthError):
            engine.check([BOS] * length, DecodingParams(max_tokens=room + 1, block_length=block_length))


@every_model
def test_logits_obey_what_a_position_sees(name):
    """Changing a token changes exactly the rows that see it."""
    model = MODELS[name]
    row = torch.tensor([[BOS, *range(30)]])
    length = 8
    before = model.logits(row, block_length=length)[0]
    for place in (3, 12, 30):
        changed = row.clone()
        changed[0, place] = 59
        after = model.logits(changed, block_length=length)[0]
        limits = model.visibility.limits(0, 31, 31 - length, length, 31 - length)
        sees = torch.ones(31, dtype=torch.bool) if limits is None else torch.from_numpy(limits) > place
        assert torch.equal((before != after).any(-1), sees)


@every_model
def test_a_likelihood_is_the_mean_over_all_masks_of_what_plain_forwards_say(name):
    """By brute force, for a block-causal model block by block, and for a shifted one from the row before."""
    model, prompt, answer = MODELS[name], [BOS, 5, 6], [7, 8, 9, 10]
    length = 4
    estimate = Likelihood(model, num_samples=4000, block_length=length).estimate([(prompt, answer)])[0]
    if model.visibility.sees_suffix:
        parts = [(3, 7)]
    elif model.visibility.anchored:
        parts = [(3, 4), (4, 7)]
    else:
        parts = [(3, 7)]
    exact = sum(_mean_over_masks(model, prompt + answer, start, stop, length) for start, stop in parts)
    assert abs(estimate.value - exact) < 4 * estimate.stderr
    assert estimate.stderr < 0.1
    assert estimate.answer_tokens == 4
    assert estimate.prompt_tokens == 3


def test_a_likelihood_of_several_blocks_sees_the_prompt_alone_both_ways():
    """Prevents that finished blocks are taken for one prompt, whose tokens see each other."""
    model, prompt, answer = MODELS["block_context"], [BOS, 5, 6], [7, 8, 9, 10, 11, 12]
    row = torch.tensor([*prompt, *answer])
    block = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    sees = block[None, :] <= block[:, None]

    def attend(layer, q, k, v):
        return sdpa(*(x.transpose(0, 1)[None] for x in (q, k, v)), sees[: len(q), : len(q)])[0].transpose(
            0, 1
        )

    exact = 0.0
    for start, stop in ((3, 7), (7, 9)):
        size = stop - start
        for bits_ in range(1, 2**size):
            masked = [start + i for i in range(size) if bits_ >> i & 1]
            ids = row[:stop].index_fill(0, torch.tensor(masked), MASK)
            logs = model.head(model.hidden(ids, torch.arange(stop), attend)).log_softmax(-1)
            value = sum(float(logs[i, row[i]]) for i in masked) * size / len(masked)
            exact += value / (size * _choose(size, len(masked)))
    estimate = Likelihood(model, num_samples=4000, block_length=4).estimate([(prompt, answer)])[0]
    assert abs(estimate.value - exact) < 4 * estimate.stderr


def _mean_over_masks(model, row, start, stop, length):
    total, size = 0.0, stop - start
    for bits_ in range(1, 2**size):
        masked = [start + i for i in range(size) if bits_ >> i & 1]
        ids = torch.tensor([[MASK if i in masked else token for i, token in enumerate(row[:stop])]])
        block = length if model.visibility.kind == "block_causal" else size
        logs = model.logits(ids, block_length=block)[0].log_softmax(-1)
        value = sum(float(logs[max(i - model.shift, 0), row[i]]) for i in masked) * size / len(masked)
        total += value / (size * _choose(size, len(masked)))
    return total


def _choose(n, k):
    return 1 if k == 0 else _choose(n - 1, k - 1) * n // k


@every_model
def test_greedy_decoding_of_a_likelihood_is_the_engines(name):
    model, prompt = MODELS[name], [BOS, 5, 6]
    length = model.visibility.block_length if not model.visibility.sees_suffix else 9
    own = DecodingParams(max_tokens=9, block_length=length, ignore_eos=True, early_eos=False, ban_ids=False)
    answer = list(run(model, [(prompt, own)])[0].token_ids)
    other = [answer[0], *[i for i in range(59) if i != answer[1]][:1], *answer[2:]]
    estimates = Likelihood(model, num_samples=2).estimate([(prompt, answer), (prompt, other)], greedy=True)
    assert [e.is_greedy for e in estimates] == [True, False]
