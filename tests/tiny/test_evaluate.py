"""Questions of one's own: read as they stand, and a line at fault is named."""

import json
from pathlib import Path

import pytest

from llada_exp.tiny.evaluate import read_questions
from llada_exp.tiny.tasks import prompt_text

HAND_WRITTEN = Path(__file__).parent / "hand_written.jsonl"


def test_the_hand_written_questions_are_a_hundred_each_once_a_third_to_be_refused():
    problems = read_questions(HAND_WRITTEN)
    assert len({prompt_text(problem) for problem in problems}) == 100
    assert sum(problem.refused for problem in problems) == 32
    assert all(-999 <= int(problem.answer) <= 1998 for problem in problems if not problem.refused)


@pytest.mark.parametrize("line", ["nonsense", '{"question": "a"}', "[1]"])
def test_a_line_at_fault_is_named(tmp_path, line):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"question": "1+1", "answer": "2"}) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=r"mine\.jsonl:2: "):
        read_questions(path)
