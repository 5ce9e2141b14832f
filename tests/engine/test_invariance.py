"""A request's answer depends on the request alone: never on neighbours, row, or arrival time."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llada_exp.bench.models import bench_model
from llada_exp.engine import EngineCore
from llada_exp.engine.batch import Work, build
from llada_exp.engine.decoder import Decoder
from llada_exp.engine.layout import Layout
from llada_exp.engine.request import Request
from llada_exp.models.linear import linear
from llada_exp.types import CACHES, REFRESH, RULES, DecodingParams
from tests.toys import BOS, toy_model

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
        gamma=draw(st.sampled_from([0.0, 0.1, 3.0, 20.0])),
        kl_threshold=draw(st.sampled_from([0.0, 0.01, 0.3, 3.0])),
        history=draw(st.integers(1, 3)),
        temperature=0.0 if greedy else draw(st.sampled_from([0.3, 1.0])),
        top_p=draw(st.sampled_from([1.0, 0.8])),
        top_k=draw(st.sampled_from([0, 5])),
        remasking=draw(st.sampled_from(["low_confidence", "topk_margin", "entropy", "random"])),
        cfg_scale=draw(st.sampled_from([0.0, 0.0, 1.5])),
        seed=draw(st.integers(0, 2**63 - 1)),
        ignore_eos=draw(st.booleans()),
        early_eos=draw(st.booleans()),
        eos_confidence=draw(st.sampled_from(["allow", "last", "forbid"])),
        ban_ids=draw(st.booleans()),
    )


def alone(prompt, own):
    engine = EngineCore(MODEL, batch_size=2)
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
    engine = EngineCore(MODEL, batch_size=rows + 1, max_positions=budget)
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


def _logits(rows, model=MODEL):
    """Logits at each row's masked positions, packed together."""
    requests = [
        Request(
            str(i),
            prompt=torch.tensor(ids).numpy(),
            params=own,
            mask_id=model.special.mask,
            layout=Layout(len(ids), own.max_tokens, own.block_length, model.visibility, model.shift),
        )
        for i, (ids, own) in enumerate(rows)
    ]
    batch = build([Work(r, r.plan) for r in requests], model.special, model.device)
    logits = Decoder(model, 64)._logits(batch)
    counts = [len(request.plan.open_positions) for request in requests]
    return logits[: sum(counts)].split(counts)


@QUICK
@given(st.lists(st.tuples(prompts, st.sampled_from([1, 8, 32])), min_size=2, max_size=9))
def test_logits_are_bit_equal_alone_and_packed(rows):
    """Also the self-check of this host's kernels: equal ids could hide drifting logits."""
    jobs = [(ids, DecodingParams(max_tokens=b, block_length=b)) for ids, b in rows]
    with torch.inference_mode():
        for job, together in zip(jobs, _logits(jobs), strict=True):
            assert torch.equal(_logits([job])[0], together)


@pytest.mark.parametrize(("inputs", "outputs"), [(512, 1536), (1536, 512), (512, 4096), (256, 96), (96, 256)])
def test_a_products_rows_do_not_depend_on_their_number(inputs, outputs):
    """The host's kernels at the sizes of real layers, in multiples of 16 rows: a toy model's would not
    show that torch's own float32 product of 1536 inputs gives other bits at 64 to 160 rows."""
    generator = torch.Generator().manual_seed(inputs)
    layer = linear(torch.randn(outputs, inputs, generator=generator))
    x = torch.randn(1024, inputs, generator=generator)
    whole = layer(x)
    for rows in (16, 32, 64, 80, 128, 160, 256, 512):
        assert torch.equal(layer(x[32 : 32 + rows].clone()), whole[32 : 32 + rows]), rows


def test_logits_of_a_wider_model_are_bit_equal_too():
    model = bench_model("random_31m", torch.device("cpu"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    own = DecodingParams(max_tokens=32, block_length=32)
    jobs = [(torch.randint(0, 4000, (n,), generator=generator).tolist(), own) for n in (3, 40, 111)]
    with torch.inference_mode():
        together = _logits(jobs, model)
        assert all(torch.equal(_logits([job], model)[0], x) for job, x in zip(jobs, together, strict=True))
