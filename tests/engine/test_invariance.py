"""A request's answer depends on the request alone: never on neighbours, row, or arrival time."""

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llada_exp.engine import Engine
from llada_exp.engine.batch import Work, build
from llada_exp.engine.decoder import Decoder
from llada_exp.engine.request import Request
from llada_exp.types import CACHES, REFRESH, RULES, DecodingParams
from tests.toys import BOS, MASK, toy_model

MODEL = toy_model()
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

prompts = st.lists(st.integers(0, 59), min_size=1, max_size=60).map(lambda ids: [BOS, *ids])


@st.composite
def params(draw):
    greedy = draw(st.booleans())
    return DecodingParams(
        max_tokens=draw(st.integers(1, 40)),
        block_length=draw(st.sampled_from([1, 4, 8, 32])),
        rule=draw(st.sampled_from(RULES)),
        cache=draw(st.sampled_from(CACHES)),
        refresh=draw(st.sampled_from(REFRESH)),
        refresh_window=draw(st.sampled_from([0, 3, 16])),
        refresh_interval=draw(st.integers(1, 3)),
        suffix_window=draw(st.sampled_from([None, None, 0, 5])),
        steps=draw(st.sampled_from([None, 3, 16])),
        threshold=draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])),
        temperature=0.0 if greedy else draw(st.sampled_from([0.3, 1.0])),
        top_p=draw(st.sampled_from([1.0, 0.8])),
        top_k=draw(st.sampled_from([0, 5])),
        remasking=draw(st.sampled_from(["low_confidence", "low_confidence", "random"])),
        cfg_scale=draw(st.sampled_from([0.0, 0.0, 1.5])),
        seed=draw(st.integers(0, 2**63 - 1)),
        ignore_eos=draw(st.booleans()),
        early_eos=draw(st.booleans()),
        eos_confidence=draw(st.sampled_from(["allow", "last", "forbid"])),
        ban_ids=draw(st.booleans()),
    )


def alone(prompt, own):
    engine = Engine(MODEL, batch_size=2)
    engine.add_request(prompt, own, request_id="it")
    while True:
        for item in engine.step():
            if item.output:
                return item.output


@QUICK
@given(st.data(), st.integers(1, 5), st.integers(40, 400))
def test_answers_equal_those_alone_in_any_mix(data, rows, budget):
    """Random prompts, parameters, arrivals, aborts, batch sizes and position budgets."""
    jobs = data.draw(st.lists(st.tuples(prompts, params(), st.integers(0, 6), st.booleans()), max_size=8))
    engine = Engine(MODEL, batch_size=rows + 1, max_positions=budget)
    outputs, pending, step = {}, dict(enumerate(jobs)), 0
    while pending or engine.has_work():
        for i, (prompt, own, arrival, _) in list(pending.items()):
            if arrival <= step:
                engine.add_request(prompt, own, request_id=str(i))
                del pending[i]
        if step == 4:
            for i, job in enumerate(jobs):
                if job[3]:
                    engine.abort(str(i))
        outputs.update({p.request_id: p.output for p in engine.step() if p.output})
        step += 1
    for name, output in outputs.items():
        prompt, own, _, _ = jobs[int(name)]
        expected = alone(prompt, own)
        assert output.token_ids == expected.token_ids
        assert (output.nfe, output.finish_reason) == (expected.nfe, expected.finish_reason)
        assert output.num_positions == expected.num_positions


def _logits(rows):
    """Logits at each row's masked positions, packed together."""
    requests = [
        Request(str(i), prompt=torch.tensor(ids).numpy(), params=own, mask_id=MASK)
        for i, (ids, own) in enumerate(rows)
    ]
    batch = build([Work(r, r.next_pass) for r in requests], MODEL.special, MODEL.device)
    logits = Decoder(MODEL, len(rows), MODEL.shape.max_length)._logits(batch)
    counts = [own.block_length for _, own in rows]
    return logits[: sum(counts)].split(counts)


@QUICK
@given(st.lists(st.tuples(prompts, st.sampled_from([1, 8, 32])), min_size=2, max_size=9))
def test_logits_are_bit_equal_alone_and_packed(rows):
    """Also the self-check of this host's kernels: equal ids could hide drifting logits."""
    jobs = [(ids, DecodingParams(max_tokens=b, block_length=b)) for ids, b in rows]
    with torch.inference_mode():
        for job, together in zip(jobs, _logits(jobs), strict=True):
            assert torch.equal(_logits([job])[0], together)


def test_padding_carries_the_bit_equality(monkeypatch):
    # Without it the law above must fail somewhere, or the test above proves nothing on this host.
    if torch.get_num_threads() == 1:
        return
    monkeypatch.setattr("llada_exp.engine.batch.PAD", 1)
    monkeypatch.setattr("llada_exp.engine.batch.round_up", lambda count, multiple=1: count)
    generator = torch.Generator().manual_seed(0)
    own = DecodingParams(max_tokens=8, block_length=8)
    jobs = [(torch.randint(0, 60, (n,), generator=generator).tolist(), own) for n in (3, 17, 22, 41)]
    with torch.inference_mode():
        together = _logits(jobs)
        assert not all(torch.equal(_logits([job])[0], x) for job, x in zip(jobs, together, strict=True))
