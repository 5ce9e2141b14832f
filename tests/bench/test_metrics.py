"""Measures against numbers worked out by hand."""

import pytest

from llada_exp.bench.client import LoadResult, RequestRecord
from llada_exp.bench.metrics import over_repeats, summarise


def record(index, ttft=100.0, e2el=500.0, ok=True, **fields):
    own = {"prompt_tokens": 10, "output_tokens": 5, "itl_ms": [100.0, 300.0], "tpot_ms": 100.0, **fields}
    return RequestRecord(index, 0.0, 0.0, e2el / 1000, ok, ttft_ms=ttft, e2el_ms=e2el if ok else None, **own)


def load(*records, duration=2.0, lag=0.0):
    return LoadResult(list(records), duration, [lag] * 10)


def test_throughput_counts_completed_requests_alone():
    failed = record(2, ok=False, output_tokens=50)
    told = summarise(load(record(0), record(1), failed), {})
    assert (told["completed"], told["failed"]) == (2, 1)
    assert (told["request_throughput"], told["output_throughput"], told["total_token_throughput"]) == (
        1,
        5,
        15,
    )


def test_latencies_have_mean_median_and_percentiles():
    told = summarise(load(*(record(i, ttft=float(i)) for i in range(101))), {})
    assert [told[f"{k}_ttft_ms"] for k in ("mean", "median", "p90", "p99")] == pytest.approx([50, 50, 90, 99])
    assert told["median_itl_ms"] == 200


def test_what_is_not_measurable_is_none():
    quiet = record(0, ttft=None, tpot_ms=None, itl_ms=[], output_tokens=None)
    told = summarise(load(quiet), {})
    names = ("mean_ttft_ms", "p99_tpot_ms", "median_itl_ms", "output_throughput", "nfe", "tpf", "accuracy",
             "request_goodput")  # fmt: skip
    assert {told[name] for name in names} == {None}
    assert told["median_e2el_ms"] == 500


def test_goodput_counts_requests_that_keep_every_limit():
    fast, slow = record(0, ttft=100.0, e2el=500.0), record(1, ttft=100.0, e2el=900.0)
    assert summarise(load(fast, slow), {"ttft_ms": 150, "e2el_ms": 600})["request_goodput"] == 0.5
    assert summarise(load(fast, slow), {"ttft_ms": 50})["request_goodput"] == 0


def test_tokens_per_forward_is_a_ratio_of_sums():
    a = record(0, output_tokens=10, cost={"nfe": 1, "num_positions": 40, "queue_ms": 1.0})
    b = record(1, output_tokens=10, cost={"nfe": 9, "num_positions": 360, "queue_ms": 3.0})
    told = summarise(load(a, b), {})
    assert (told["nfe"], told["tpf"], told["positions_per_token"], told["mean_queue_ms"]) == (5, 2, 20, 2)


def test_accuracy_comes_with_its_interval_and_needs_every_answer_scored():
    told = summarise(load(record(0, correct=True), record(1, correct=False)), {})
    assert told["accuracy"] == 0.5
    assert told["accuracy_low"] < 0.5 < told["accuracy_high"]
    assert summarise(load(record(0, correct=True), record(1)), {})["accuracy"] is None


@pytest.mark.parametrize(("lag", "late"), [(0.1, False), (9.0, False), (11.0, True)])
def test_a_late_generator_is_flagged(lag, late):
    assert summarise(load(record(0), lag=lag), {})["generator_late"] is late


def test_a_lag_that_is_small_beside_the_latency_is_no_matter():
    assert summarise(load(record(0, ttft=10_000.0, e2el=20_000.0), lag=100.0), {})["generator_late"] is False


def test_repeats_are_averaged_counts_summed_and_the_spread_told():
    first = summarise(load(record(0, correct=True), duration=1.0), {})
    second = summarise(load(record(0, correct=False), duration=2.0), {})
    joined = over_repeats([first, second])
    assert (joined["completed"], joined["total_output_tokens"], joined["duration"]) == (2, 10, 1.5)
    assert joined["output_throughput"] == pytest.approx((5 + 2.5) / 2)
    assert joined["output_throughput_spread"] == pytest.approx(1.7677669)
    assert (joined["accuracy"], joined["num_correct"]) == (0.5, 1)
    assert joined["accuracy_high"] < 1, "the interval is that of all answers"
    assert over_repeats([first])["output_throughput_spread"] is None


def test_one_bad_repeat_flags_the_point():
    late, good = summarise(load(record(0), lag=50.0), {}), summarise(load(record(0)), {})
    assert over_repeats([good, late])["generator_late"] is True
