"""Workloads: the same for a seed, of the lengths asked for, and scored by their own answers."""

import itertools
import json
import statistics

import pytest

from llada_exp.bench.arrivals import arrivals
from llada_exp.bench.workload import build
from llada_exp.scoring import decide_response
from llada_exp.tiny import tasks

TINY = {"kind": "tiny", "problems": "short", "seed": 0}
FIXED = {"kind": "fixed", "input_len": 20, "output_len": 7, "vocab": [5, 9], "seed": 0}
MIXED = {"kind": "mixed", "input_median": 64, "input_sigma": 1.0, "input_max": 512, "output_median": 32,
         "output_sigma": 0.8, "output_max": 100, "vocab": [0, 256], "seed": 0}  # fmt: skip


@pytest.mark.parametrize("workload", [TINY, FIXED, MIXED], ids=lambda w: w["kind"])
def test_a_seed_is_a_workload(workload):
    one, two = list(build(workload, 20)), list(build(workload, 20))
    assert one == two
    assert one != list(build({**workload, "seed": 1}, 20))


def test_fixed_lengths_are_exact():
    for prompt in build(FIXED, 10):
        assert len(prompt.ids) == 20
        assert set(prompt.ids) <= {5, 6, 7, 8}
        assert prompt.fields == {"max_tokens": 7, "ignore_eos": True}
        assert prompt.path == "/v1/completions"


def test_mixed_lengths_lie_around_their_median_and_below_their_limit():
    prompts = list(build(MIXED, 2000))
    lengths, outputs = [len(p.ids) for p in prompts], [p.fields["max_tokens"] for p in prompts]
    assert 58 < statistics.median(lengths) < 70
    assert max(lengths) == 512
    assert max(outputs) == 100
    assert statistics.mean(lengths) > 1.3 * statistics.median(lengths), "the long tail is what makes it mixed"


def test_the_embedded_problems_are_held_out_ones_with_their_answers():
    for prompt in build(TINY, 30):
        question = prompt.messages[0]["content"]
        assert tasks.is_held_out(question)
        problem = next(p for p in tasks.held_out("short", 30) if p.question == question)
        assert decide_response(tasks.reply_text(problem), prompt.expected)
        assert decide_response(tasks.reply_text(problem, "boxed"), prompt.expected)


def test_more_requests_than_problems_start_again():
    assert len(list(build(TINY, 700))) == 700


def test_a_file_of_prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = [
        {"prompt": "one", "max_tokens": 5},
        {"problem": "two", "expected_answer": 2},
        {"messages": [{"role": "user", "content": "three"}]},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    prompts = {p.text: p for p in build({"kind": "jsonl", "path": str(path), "seed": 0}, 3)}
    assert set(prompts) == {"one", "two", "three"}
    assert prompts["one"].fields == {"max_tokens": 5}
    assert [prompts[n].expected for n in ("one", "two", "three")] == [None, "2", None]


@pytest.mark.parametrize("line", ["{nonsense", '{"text": "x"}', "[1]"])
def test_a_bad_line_is_named(line, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"prompts\.jsonl:2: "):
        list(build({"kind": "jsonl", "path": str(path), "seed": 0}, 2))


def first(n, *arguments):
    return list(itertools.islice(arrivals(*arguments), n))


def test_arrivals_keep_their_rate_and_their_pattern():
    assert first(4, 4.0, "constant", 1, 0) == [0, 0.25, 0.5, 0.75]
    assert first(5, 4.0, "burst", 2, 0) == [0, 0, 0.5, 0.5, 1.0]
    assert first(3, float("inf"), "poisson", 1, 0) == [0, 0, 0]
    times = first(4001, 10.0, "poisson", 1, 0)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert statistics.mean(gaps) == pytest.approx(0.1, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.1, rel=0.1), (
        "exponential gaps vary as much as their mean"
    )
    assert times == first(4001, 10.0, "poisson", 1, 0) != first(4001, 10.0, "poisson", 1, 1)
