"""Two runs against each other: only what can be compared is, and a difference comes with its p-value."""

import json

import pytest

from llada_exp.evals import answers
from llada_exp.evals.compare import compare, main
from tests.evals.samples import answer


def run(*verdicts, samples=1, **own):
    return [
        answer(i, s, "correct" if s < right else "wrong", **own)
        for i, right in enumerate(verdicts)
        for s in range(samples)
    ]


def test_one_sample_a_problem_is_mcnemars():
    (told,) = compare(run(*[1] * 20, *[1] * 6, 0), run(*[1] * 20, *[0] * 6, 0))
    assert (told.gained, told.lost, told.num_problems) == (0, 6, 27)
    assert told.difference == pytest.approx(-6 / 27)
    assert told.p_value == pytest.approx(2 * 0.5**6)
    assert told.test == "McNemar, exact"


def test_several_samples_are_compared_by_problem():
    a, b = run(*[4] * 10, 0, samples=4), run(*[2] * 10, 0, samples=4)
    (told,) = compare(a, b)
    assert told.test == "sign flips"
    assert told.difference == pytest.approx(-5 / 11)
    assert told.lost == 10
    assert told.p_value < 0.01
    (same,) = compare(a, a)
    assert (same.difference, same.p_value, same.same_text) == (0, 1, 1)


def test_the_order_of_the_files_does_not_matter():
    a, b = run(1, 0, 1, 1), run(0, 0, 1, 1)
    assert compare(a, b) == compare(a, b[::-1])


def test_what_is_not_the_same_is_refused():
    """Prevents a p-value over other problems than one thinks."""
    with pytest.raises(ValueError, match="of 3 and 2 problems, 2 are in both"):
        compare(run(1, 1, 1), run(1, 1))
    assert compare(run(1, 1, 1), run(1, 1), common=True)[0].num_problems == 2
    with pytest.raises(ValueError, match="different questions"):
        compare(run(1), run(1, question="another"))
    with pytest.raises(ValueError, match="samples a problem differ: 1, 2"):
        compare(run(1), run(1, samples=2))
    with pytest.raises(ValueError, match="no benchmark in common: b and c"):
        compare(run(1), run(1, benchmark="c"))


def test_the_command_reads_folders_and_prints_words_or_json(tmp_path, capsys):
    for name, own in (("a", run(1, 1)), ("b", run(1, 0))):
        (tmp_path / name).mkdir()
        answers.write(tmp_path / name / answers.FILE, own)
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "b: 2 problems: 100.0 % -> 50.0 %, -50.0 points" in capsys.readouterr().out
    assert main([str(tmp_path / "a"), str(tmp_path / "b" / answers.FILE), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lost"] == 1
    assert main([str(tmp_path / "a"), str(tmp_path / "c")]) == 2
    assert "expected an evaluation's answers" in capsys.readouterr().err
