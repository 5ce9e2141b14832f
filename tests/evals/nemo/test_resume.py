"""NeMo-Skills: what failed is one answer and is asked again; what was cut off in the middle too."""

import json

import pytest

from llada_exp.evals import answers
from llada_exp.evals.nemo.harness import StandIn
from llada_exp.evals.nemo.results import read_results, verify_parameters
from llada_exp.evals.nemo.resume import PLACE, go_on
from tests.evals.endpoint import completion, endpoint, failure
from tests.evals.here import evals_here
from tests.evals.nemo.fakes import PROBLEMS, fake_venv, recorded, response
from tests.evals.nemo.test_command import plan

LONG = "This model's maximum context length is 128 tokens and your request has 500 input tokens"
GOOD = {"problem": "p", "generation": "g", "predicted_answer": "1", "symbolic_correct": True}
FAILED = {**GOOD, "generation": "", "error": "context_window_exceeded", "detailed_error": LONG}


def right(body):
    return completion("\\boxed{5}")


def odd(body):
    return 200, {"choices": [{"message": {"content": [{"type": "text", "text": "5"}]}}], "usage": {}}


def bare(body):
    """As of a completion: NeMo-Skills' HTTP client fails at it."""
    return 200, {"choices": [{"text": "\\boxed{5}"}], "usage": None}


def test_an_answer_in_another_shape_is_one(tmp_path, monkeypatch):
    command = ("benchmark=gsm8k", f"nemo_skills.command={fake_venv(tmp_path / 'venv')}", "expname=n",
               "tracking=disabled", "max_retries=0")  # fmt: skip
    with endpoint(lambda b: bare(b) if "nothing" in b["messages"][0]["content"] else right(b)) as own:
        assert evals_here(monkeypatch, tmp_path, *command, f"url={own.url}") == 0
    *_, last = answers.read(tmp_path / "outputs" / "evals" / "n" / answers.FILE)
    assert (last.predicted, last.error, last.output_tokens) == ("5", None, None)


@pytest.mark.parametrize(
    ("wrong", "more", "words"),
    [
        (lambda b: failure(400, LONG), (), "400: This model's maximum context length is 128"),
        (lambda b: failure(400, LONG), ("nemo_skills.tokenizer=org/name",), LONG),
        (lambda b: failure(500, "broken"), (), "500: broken"),
        (odd, (), "message.content is a list"),
    ],
    ids=["too long", "too long, with a tokenizer", "broken", "odd"],
)
def test_one_bad_problem_is_one_failed_answer_and_is_asked_again(wrong, more, words, tmp_path, monkeypatch):
    """Prevents one prompt from ending the evaluation of a night."""
    command = ("benchmark=gsm8k", f"nemo_skills.command={fake_venv(tmp_path / 'venv')}", "expname=n",
               "tracking=disabled", "max_retries=0", *more)  # fmt: skip
    folder = tmp_path / "outputs" / "evals" / "n"
    with endpoint(lambda b: wrong(b) if "nothing" in b["messages"][0]["content"] else right(b)) as own:
        assert evals_here(monkeypatch, tmp_path, *command, f"url={own.url}") == 0
        assert len(own.bodies) == len(PROBLEMS)
    *_, last = answers.read(folder / answers.FILE)
    assert (last.verdict, last.problem) == (answers.FAILED, "3")
    assert words in last.error
    with endpoint(right) as own:
        assert evals_here(monkeypatch, tmp_path, *command, f"url={own.url}", "resume=true") == 0
        assert ["nothing" in q for q, _ in own.questions()] == [True]
        row = json.loads((folder / "row.jsonl").read_text())
        assert (row["failed"], row["resumed"], row["num_problems"]) == (0, 3, 4)
        assert evals_here(monkeypatch, tmp_path, *command, f"url={own.url}", "resume=true") == 0
        assert len(own.bodies) == 1, "what is whole is shown"


def test_a_prompt_that_is_too_long_is_left_to_nemo_skills_once():
    """It asks again with fewer tokens, and dies where that is refused, too."""
    stands_in, body = StandIn(softly=True), {"messages": [{"content": "long"}], "seed": 1, "max_tokens": 9}
    assert not stands_in(400, LONG, body)
    assert not stands_in(400, LONG, body | {"seed": 2})
    assert stands_in(400, LONG, body | {"max_tokens": 3})
    assert stands_in(400, "the maximum context length was exceeded", body), "words that it does not know"
    assert stands_in(500, LONG, body | {"seed": 3})
    assert StandIn(softly=False)(400, LONG, body)
    assert not StandIn(softly=False)(401, "no key", body)


def test_a_score_of_nothing_is_an_error(tmp_path, monkeypatch, capsys):
    command = ("benchmark=gsm8k", f"nemo_skills.command={fake_venv(tmp_path / 'venv')}", "expname=n",
               "tracking=disabled", "max_retries=0")  # fmt: skip
    with endpoint(lambda body: failure(500, "broken")) as own:
        assert evals_here(monkeypatch, tmp_path, *command, f"url={own.url}") == 1
    assert "none of 4 questions of gsm8k was answered (500: broken)" in capsys.readouterr().err
    assert not (tmp_path / "outputs" / "evals" / "n" / "row.jsonl").exists()


def placed(lines):
    return "".join(json.dumps({**line, PLACE: place}) + "\n" for place, line in lines)


WHOLE = "".join(json.dumps(line) + "\n" for line in (GOOD, FAILED, GOOD))


@pytest.mark.parametrize(
    ("files", "kept_places"),
    [
        ({"": WHOLE, ".done": ""}, [0, 2]),
        ({"": WHOLE[:-20]}, [0]),
        ({"-async": placed([(2, GOOD), (1, FAILED)]) + '{"problem": "p", "gen'}, [2]),
        ({"": WHOLE[:30], "-async": placed([(1, GOOD), (0, GOOD), (2, GOOD)])}, [0, 1, 2]),
        ({"": WHOLE, ".done": "", "-async": placed([(1, GOOD)])}, [1]),
        ({"": json.dumps(FAILED) + "\n", ".done": ""}, []),
        ({".done": ""}, []),
        ({}, []),
    ],
    ids=["ended", "killed while it scored", "killed while it asked", "killed while it sorted",
         "killed while we prepared", "all failed", "taken away", "never begun"],
)  # fmt: skip
def test_whatever_a_kill_left_goes_on(files, kept_places, tmp_path):
    own = plan(tmp_path, benchmarks={"gsm8k": 1}, resume=True)
    path = own.outputs()["gsm8k", 0]
    path.parent.mkdir(parents=True)
    for end, text in files.items():
        path.with_name(path.name + end).write_text(text)

    def failed(line, seed):
        return line.get("error")

    for _ in range(2):
        assert go_on(own, failed) == len(kept_places)
        assert not path.exists()
        assert not path.with_name(path.name + ".done").exists()
        part = path.with_name(path.name + "-async")
        lines = [json.loads(line) for line in part.read_text().splitlines()] if part.exists() else []
        assert sorted(line[PLACE] for line in lines) == kept_places
    whole = json.dumps(GOOD) + "\n"
    part.unlink(missing_ok=True)
    path.write_text(whole)
    path.with_name(path.name + ".done").touch()
    assert go_on(own, failed) == 1
    assert path.read_text() == whole, "what is whole is left alone"


def test_an_answer_with_less_room_than_asked_is_counted(tmp_path, record):
    """As NeMo-Skills asks again where prompt and answer together are too long."""
    own = plan(tmp_path, benchmarks={"gsm8k": 1}, tokens_to_generate=64)
    body = {"messages": [{"content": "2 + 3"}], "seed": 0, "max_tokens": 8, "temperature": 0.7, "top_p": 0.95}
    told = response(body)
    record.write_text(json.dumps(recorded(body, told)) + "\n")
    path = own.outputs()["gsm8k", 0]
    path.parent.mkdir(parents=True)
    text = told["choices"][0]["message"]["content"]
    path.write_text(json.dumps({**GOOD, "problem": "2 + 3", "generation": text}) + "\n")
    assert verify_parameters(own.sent(), record) is None
    (answer,) = read_results(own, record)
    assert (answer.verdict, answer.num_cut) == ("correct", 56)
    path.write_text("")
    with pytest.raises(RuntimeError, match="answered no question of gsm8k"):
        read_results(own, record)


def test_instructions_that_were_followed_are_right(tmp_path):
    """ifeval: neither code nor a judge, and no answer to read."""
    own = plan(tmp_path, benchmarks={"ifeval": 1})
    path = own.outputs()["ifeval", 0]
    path.parent.mkdir(parents=True)
    lines = [{"prompt": "p", "response": "r", "strict_eval": {"follow_all_instructions": right}}
             for right in (True, False)]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [a.verdict for a in read_results(own)] == ["correct", "wrong"]
