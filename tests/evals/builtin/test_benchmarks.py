"""Benchmarks of the builtin harness: which problems, which words."""

import json
import re

import pytest

from llada_exp.evals.builtin import benchmarks
from llada_exp.tiny import tasks


def file(tmp_path, *lines):
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(path)


def test_tiny_problems_are_the_held_out_ones():
    """Prevents scoring what training saw."""
    own = benchmarks.load("tiny_long", 20)
    assert all(tasks.is_held_out(p.question) for p in own)
    assert [p.id for p in own] == [str(i) for i in range(20)]
    assert {p.fields["max_tokens"] for p in own} == {256}
    assert benchmarks.load("tiny_long", 5) == own[:5]


def test_a_file_gives_ids_answers_and_lengths(tmp_path):
    path = file(tmp_path, {"problem": "a", "expected_answer": 3}, "",
                {"problem": "b", "expected_answer": "x", "id": "second", "max_tokens": 7})  # fmt: skip
    first, second = benchmarks.load(path)
    assert (first.benchmark, first.id, first.expected, dict(first.fields)) == ("own", "0", "3", {})
    assert (second.id, second.fields["max_tokens"]) == ("second", 7)
    assert benchmarks.load(path, 1) == [first]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["nonsense"], ":1: not JSON"),
        (["[1]"], ":1: a JSON array; expected an object"),
        ([{"text": "a"}], ':1: "problem" (or "question", "prompt", "messages") is missing; found text'),
        ([{"problem": 3}], ':1: "problem" is 3; expected a text'),
        ([{"messages": [{"role": "user", "content": "a"}]}], ':1: "messages" are for llada_exp.bench'),
        ([{"problem": "a"}], ':1: "expected_answer" is missing; expected a text or a'),
        ([{"problem": "a", "expected_answer": [1]}], ':1: "expected_answer" is [1]; expected a text or a'),
        ([{"problem": "a", "expected_answer": 1, "max_tokens": "9"}],
         ":1: \"max_tokens\" is '9'; expected an integer"),
        ([{"problem": "a", "expected_answer": 1, "id": "1"}, {"problem": "b", "expected_answer": 1}],
         ":2: \"id\" '1' was there before"),
        ([], "holds no problem"),
    ],
)  # fmt: skip
def test_a_line_at_fault_is_named(tmp_path, lines, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        benchmarks.load(file(tmp_path, *lines))


def test_a_missing_file_and_an_unknown_name_are_named():
    with pytest.raises(ValueError, match="no such file"):
        benchmarks.load("none.jsonl")
    with pytest.raises(ValueError, match=r"expected tiny_short, tiny_long or a \.jsonl file"):
        benchmarks.load("tiny")


def test_prompts_hold_the_problem_and_leave_other_braces_alone():
    (own,) = benchmarks.load("tiny_short", 1)
    assert benchmarks.prompt_of(own, "plain") == own.question
    assert benchmarks.prompt_of(own, "boxed").endswith(f"\\boxed{{}}.\n\n{own.question}")
    assert benchmarks.prompt_of(own, "{x} {problem}") == f"{{x}} {own.question}"
    with pytest.raises(ValueError, match="prompt is 'nothing'; expected plain, boxed"):
        benchmarks.check_prompt("nothing")
