"""answers.jsonl: what is read back is what was written, whatever became of the process."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llada_exp.evals import answers
from llada_exp.evals.answers import VERDICTS, Answer
from tests.evals.samples import answer

TEXT = st.text(max_size=20)
ANSWERS = st.builds(
    Answer,
    benchmark=TEXT,
    problem=TEXT,
    sample=st.integers(0, 9),
    question=TEXT,
    expected=st.none() | TEXT,
    response=TEXT,
    predicted=st.none() | TEXT,
    verdict=st.sampled_from(VERDICTS),
    nfe=st.none() | st.integers(0, 9),
    decoding=st.dictionaries(TEXT, st.none() | TEXT | st.integers(0, 9), max_size=2),
)


@given(st.lists(ANSWERS, unique_by=lambda a: a.key, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, own):
    path = tmp_path_factory.mktemp("a") / answers.FILE
    answers.write(path, own)
    assert answers.read(path) == own


def test_a_line_that_was_cut_off_is_passed_over_and_a_later_answer_holds(tmp_path):
    """Prevents a killed run from being lost, and a problem asked again from counting twice."""
    path = tmp_path / answers.FILE
    again = answer(0, verdict="wrong")
    path.write_text("".join(map(answers.line, (answer(0, verdict="failed"), answer(1), again))) + '{"benchm')
    assert answers.read(path) == [again, answer(1)]


@pytest.mark.parametrize("text", ["no json\n", "{}\n", '{"verdict": "right"}\n', "[]\n"])
def test_a_foreign_line_is_named(tmp_path, text):
    path = tmp_path / answers.FILE
    path.write_text(answers.line(answer(0)) + text)
    with pytest.raises(ValueError, match=r"answers.jsonl:2: "):
        answers.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        answers.read(tmp_path / "no")
