"""The device path's forward: captured or not, the answers of the exact path; few shapes; one trace each."""

from typing import get_args, get_type_hints
from unittest import mock

import numpy as np
import pytest

from llada_exp.engine import EngineCore
from llada_exp.engine.forward import CAPTURES, Forward
from llada_exp.engine.kernels import KERNELS
from llada_exp.models import linear
from llada_exp.settings import EngineSettings
from llada_exp.types import DecodingParams
from tests.toys import BOS, toy_block_causal, toy_model


@pytest.fixture(scope="module")
def model():
    with mock.patch.object(linear, "_onednn_knows", return_value=False):  # its layouts are the CPU's own
        return toy_model()


def mixed_jobs(count, draw):
    """Requests of every cache, of several lengths, blocks and rules, some guided."""
    return [
        (
            [BOS, *draw.integers(0, 60, draw.integers(0, 40))],
            DecodingParams(
                max_tokens=int(draw.integers(1, 33)),
                block_length=int(draw.choice([8, 16, 32])),
                cache=str(draw.choice(["dual", "prefix", "none"])),
                cfg_scale=float(draw.choice([0.0, 0.0, 0.0, 1.0])),
                rule="threshold",
                threshold=0.1,
                ignore_eos=bool(draw.integers(2)),
            ),
        )
        for _ in range(count)
    ]


def answers(engine, jobs):
    for i, (prompt, params) in enumerate(jobs):
        engine.add_request(prompt, params, request_id=str(i))
    outputs = {}
    while engine.has_work():
        outputs.update({p.request_id: p.output.token_ids for p in engine.step() if p.output})
    return outputs


@pytest.mark.parametrize(("attention", "count"), [("sdpa", 200), ("flex", 8)])
def test_a_soak_of_mixed_requests_is_captured_in_few_shapes_and_answers_as_the_exact_path(
    model, attention, count
):
    """Prevents a shape for each mix of rows (a CUDA graph for every step), and padding that reaches K/V."""
    jobs = mixed_jobs(count, np.random.default_rng(0))
    sizes = {"batch_size": 8, "max_length": 128, "kv_positions": 640}
    engine = EngineCore(model, **sizes, exact=False, attention=attention, capture="trace")
    assert answers(engine, jobs) == answers(EngineCore(model, **sizes), jobs)
    assert 1 <= engine.decoder.forward.num_captured <= 16


def test_blocks_that_see_nothing_beyond_themselves_are_captured_too():
    with mock.patch.object(linear, "_onednn_knows", return_value=False):
        model = toy_block_causal()
    jobs = [
        ([BOS, *range(5 * i)], DecodingParams(max_tokens=20, cache="prefix", ignore_eos=True))
        for i in range(6)
    ]
    engine = EngineCore(model, batch_size=4, exact=False, capture="trace")
    assert answers(engine, jobs) == answers(EngineCore(model, batch_size=4), jobs)
    assert engine.decoder.forward.num_captured


def test_a_step_that_cannot_be_captured_is_issued_as_it_is(model, caplog):
    """Prevents an answer lost to a graph: no compiler, no memory for one."""
    jobs = [([BOS, 1, 2], DecodingParams(max_tokens=8, cache="dual"))]
    engine = EngineCore(model, batch_size=4, exact=False, capture="inductor")
    with mock.patch.object(Forward, "_compiled", side_effect=RuntimeError("no compiler")):
        assert answers(engine, jobs) == answers(EngineCore(model, batch_size=4), jobs)
    assert engine.decoder.forward.num_captured == 0
    assert caplog.text.count("no compiler") == 1, "said once, and not tried again"


@pytest.mark.parametrize(("batch_size", "max_length"), [(8, 128), (1, 20), (16, 512)])
def test_what_is_captured_ahead_of_traffic_serves_it(model, batch_size, max_length):
    """Prevents first requests that wait for captures, pages that stay reserved, and what was computed for
    no request in an answer."""
    jobs = (
        mixed_jobs(2, np.random.default_rng(1))
        if max_length > 100
        else [([BOS, 1], DecodingParams(max_tokens=8))]
    )
    sizes = {"batch_size": batch_size, "max_length": max_length}
    engine = EngineCore(model, **sizes, exact=False, capture="trace")
    engine.prepare()
    num_captured = engine.decoder.forward.num_captured
    assert num_captured
    assert len(engine.decoder.kv) == 0
    assert answers(engine, jobs) == answers(EngineCore(model, **sizes), jobs)
    if batch_size == 8:
        block = [([BOS, 1, 2], DecodingParams(max_tokens=29, cache="dual", ignore_eos=True))]
        before = engine.decoder.forward.num_captured
        answers(engine, block)
        assert engine.decoder.forward.num_captured == before


def test_a_first_capture_that_fails_is_not_named_as_in_effect(model, caplog):
    engine = EngineCore(model, batch_size=4, exact=False, capture="inductor")
    with mock.patch.object(Forward, "_compiled", side_effect=RuntimeError("no compiler")):
        engine.prepare()
    assert (engine.decoder.capture, caplog.text.count("no compiler")) == ("none", 1)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"capture": "cuda_graph"}, "capture is 'cuda_graph'; expected one of none, inductor, trace on cpu"),
        ({"exact": True, "attention": "sdpa"}, "attention is 'sdpa', which needs exact=false"),
        ({"exact": True, "capture": "trace"}, "capture is 'trace', which needs exact=false"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(model, settings, reason):
    with pytest.raises(ValueError, match=reason):
        EngineCore(model, **{"exact": False, **settings})


def test_the_kernel_is_chosen_at_load(model):
    for settings, names in (
        ({}, ("exact", "none")),
        ({"exact": False}, ("sdpa", "none")),
        ({"exact": False, "attention": "flex", "capture": "trace"}, ("flex", "trace")),
    ):
        decoder = EngineCore(model, **settings).decoder
        assert (decoder.attention, decoder.capture) == names


def test_the_configuration_allows_the_kernels_and_captures_that_there_are():
    hints = get_type_hints(EngineSettings)
    assert set(get_args(get_args(hints["attention"])[0])) == set(KERNELS)
    assert set(get_args(get_args(hints["capture"])[0])) == set(CAPTURES)
