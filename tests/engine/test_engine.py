"""The engine on a toy model: lifecycle, errors, finishing, counters."""

from dataclasses import replace

import pytest

from llada_exp.engine import EngineCore
from llada_exp.types import DecodingParams
from tests.toys import BOS, EOS, EOT, MASK, toy_model

MODEL = toy_model()
PROMPT = [BOS, 5, 9, 11, 30]


def run(engine):
    """Drain the engine: ({id: output}, {id: released ids})."""
    outputs, released = {}, {}
    while engine.has_work():
        for item in engine.step():
            released.setdefault(item.request_id, []).extend(item.token_ids)
            if item.output:
                outputs[item.request_id] = item.output
    return outputs, released


def one(params, prompt=PROMPT, model=MODEL, **kwargs):
    engine = EngineCore(model, batch_size=2)
    name = engine.add_request(prompt, params, **kwargs)
    outputs, released = run(engine)
    assert tuple(released[name]) == outputs[name].token_ids, "what was streamed is the answer"
    return outputs[name]


def always(token, at=None, other=7):
    """A model that wants `token` everywhere (or at one answer position, `other` elsewhere)."""

    class Wants:
        shape, special, visibility, shift = MODEL.shape, MODEL.special, MODEL.visibility, MODEL.shift
        device, dtype = MODEL.device, MODEL.dtype

        def hidden(self, ids, positions, attend, wanted=None):
            return (positions if wanted is None else positions[wanted]).float().unsqueeze(1)

        def head(self, hidden):
            logits = hidden.new_zeros(len(hidden), 72)
            for row, position in enumerate(hidden[:, 0].long().tolist()):
                wanted = token if at is None or position - len(PROMPT) == at else other
                logits[row, wanted] = 5.0
            return logits

    return Wants()


def test_one_token_a_step_by_default():
    output = one(DecodingParams(max_tokens=24, block_length=8, ignore_eos=True))
    assert len(output.token_ids) == output.nfe == 24
    assert output.finish_reason == "length"
    assert output.prompt_tokens == len(PROMPT)
    assert output.num_positions == output.nfe * (len(PROMPT) + 24)


def test_the_last_block_is_shorter_where_max_tokens_is_no_multiple_of_the_block_length():
    output = one(DecodingParams(max_tokens=20, block_length=8, ignore_eos=True))
    assert len(output.token_ids) == output.nfe == 20
    assert output.num_positions == 20 * (len(PROMPT) + 20), "no position beyond the answer"


def test_what_the_prompt_leaves_of_the_context_fits_whatever_the_block_length():
    limit = MODEL.shape.max_length
    params = DecodingParams(max_tokens=limit - len(PROMPT), block_length=32, tokens_per_step=32, cache="dual")
    assert len(one(params).token_ids) <= limit - len(PROMPT)
    with pytest.raises(ValueError, match="maximum context length"):
        one(replace(params, max_tokens=limit - len(PROMPT) + 1))


def test_steps_per_block_are_the_steps_of_each_block():
    # 8 + 8 + 4 positions: the last block has fewer masks than steps.
    output = one(DecodingParams(max_tokens=20, block_length=8, steps_per_block=5, ignore_eos=True))
    assert output.nfe == 5 + 5 + 4


def test_a_growing_canvas_costs_only_what_was_decoded():
    """`max_tokens` is free: positions beyond the current block are not there."""

    def cost(max_tokens, **fields):
        model = always(EOS, at=3)
        params = DecodingParams(max_tokens=max_tokens, block_length=8, tokens_per_step=8, **fields)
        return one(params, model=model).num_positions

    assert cost(16, canvas="grow") == cost(400, canvas="grow") == len(PROMPT) + 8
    assert cost(16) < cost(400)


def test_steps_are_spread_over_blocks_and_rounded_up():
    # 3 blocks, 7 steps -> 3 a block; a request is never refused for steps that do not divide.
    output = one(DecodingParams(max_tokens=24, block_length=8, steps=7, ignore_eos=True))
    assert output.nfe == 9


def test_eos_finishes_after_its_block_and_stands_in_ids_and_usage():
    late = one(DecodingParams(max_tokens=24, block_length=8, early_eos=False), model=always(EOS, at=3))
    assert late.token_ids == (7, 7, 7, EOS)
    assert (late.finish_reason, late.nfe) == ("stop", 8)


def test_early_eos_gives_the_same_answer_in_fewer_steps():
    params = DecodingParams(max_tokens=24, block_length=8)
    early = one(params, model=always(EOS, at=3))
    late = one(replace(params, early_eos=False), model=always(EOS, at=3))
    assert early.token_ids == late.token_ids
    assert early.nfe < late.nfe


def test_end_of_turn_ends_too():
    assert one(DecodingParams(max_tokens=8, block_length=8), model=always(EOT, at=1)).finish_reason == "stop"


def test_ignore_eos_decodes_the_whole_canvas():
    output = one(DecodingParams(max_tokens=16, block_length=8, ignore_eos=True), model=always(EOS))
    assert output.token_ids == (EOS,) * 16
    assert output.finish_reason == "length"


def test_eos_beyond_max_tokens_does_not_count():
    # The canvas is longer than max_tokens; an EOS in the surplus must not turn length into stop.
    output = one(DecodingParams(max_tokens=5, block_length=8), model=always(EOS, at=6))
    assert (output.token_ids, output.finish_reason) == ((7,) * 5, "length")


def test_a_stop_cuts_the_ids_and_wins_over_a_later_eos():
    def find_stop(ids):
        return 3 if len(ids) >= 3 else None

    output = one(DecodingParams(max_tokens=16, block_length=8), model=always(EOS, at=6), find_stop=find_stop)
    assert (output.token_ids, output.finish_reason) == ((7, 7, 7), "stop")


def test_an_eos_before_a_stop_wins():
    # find_stop must never see the text after EOS.
    def find_stop(ids):
        assert EOS not in ids
        return 5 if len(ids) >= 5 else None

    output = one(DecodingParams(max_tokens=16, block_length=8), model=always(EOS, at=2), find_stop=find_stop)
    assert output.token_ids == (7, 7, EOS)


@pytest.mark.parametrize("wanted", [MASK, 70])
def test_the_mask_and_ids_without_text_are_never_emitted(wanted):
    params = DecodingParams(max_tokens=8, block_length=8, ignore_eos=True)
    assert wanted not in one(params, model=always(wanted)).token_ids
    if wanted != MASK:
        assert wanted in one(replace(params, ban_ids=False), model=always(wanted)).token_ids


def test_eos_confidence_forbid_and_last():
    params = DecodingParams(max_tokens=8, block_length=8, ignore_eos=True)
    forbidden = one(replace(params, eos_confidence="forbid"), model=always(EOS))
    assert EOS not in forbidden.token_ids
    last = one(replace(params, eos_confidence="last", steps=2), model=always(EOS, at=0))
    # seven plain candidates: four in the first step, then the other three, then the end alone
    assert (last.token_ids[0], last.nfe) == (EOS, 3)


def test_sampling_depends_on_the_seed_and_on_nothing_else():
    params = DecodingParams(max_tokens=16, block_length=8, temperature=1.0, ignore_eos=True)
    answers = {seed: one(replace(params, seed=seed)).token_ids for seed in range(4)}
    assert len(set(answers.values())) == 4
    assert one(replace(params, seed=2)).token_ids == answers[2]


def test_top_k_one_is_greedy_and_a_tiny_top_p_too():
    params = DecodingParams(max_tokens=16, block_length=8, ignore_eos=True)
    greedy = one(params).token_ids
    assert one(replace(params, temperature=1.0, top_k=1)).token_ids == greedy
    assert one(replace(params, temperature=1.0, top_p=1e-9)).token_ids == greedy


def test_random_remasking_changes_the_order_not_the_law():
    params = DecodingParams(max_tokens=16, block_length=8, remasking="random", ignore_eos=True)
    outputs = {one(replace(params, seed=seed)).token_ids for seed in range(4)}
    assert len(outputs) > 1


def test_guidance_costs_two_rows_and_changes_the_answer():
    params = DecodingParams(max_tokens=16, block_length=8, ignore_eos=True)
    plain, guided = one(params), one(replace(params, cfg_scale=2.0))
    assert guided.token_ids != plain.token_ids
    assert guided.num_positions == 2 * plain.num_positions
    assert guided.nfe == plain.nfe, "NFE counts the pair once"
    with pytest.raises(ValueError, match="needs 2 rows"):
        EngineCore(MODEL, batch_size=1).add_request(PROMPT, replace(params, cfg_scale=2.0))


def test_a_trace_tells_each_position_once_with_its_step_and_confidence():
    output = one(DecodingParams(max_tokens=16, block_length=8, rule="threshold", trace=True, ignore_eos=True))
    assert [commit.step for commit in output.trace] == list(range(output.nfe))
    told = {p: t for c in output.trace for p, t in zip(c.positions, c.token_ids, strict=True)}
    assert tuple(told[p] for p in range(16)) == output.token_ids
    assert one(DecodingParams(max_tokens=8, block_length=8)).trace == ()


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_a_cache_costs_fewer_positions_and_its_first_block_step_is_exact(cache):
    params = DecodingParams(max_tokens=32, block_length=8, steps=16, ignore_eos=True, trace=True)
    plain, cached = one(params), one(replace(params, cache=cache))
    assert cached.nfe == plain.nfe
    assert cached.num_positions < plain.num_positions
    assert cached.trace[0] == replace(plain.trace[0], request_id=cached.trace[0].request_id)


def test_max_length_bounds_a_row():
    with pytest.raises(ValueError, match="max_length is 600; expected from 1 to the model's 512"):
        EngineCore(MODEL, max_length=600)
    engine = EngineCore(MODEL, max_length=20)
    with pytest.raises(ValueError, match="maximum context length is 20 tokens"):
        engine.add_request(PROMPT, DecodingParams(max_tokens=16, block_length=8))
