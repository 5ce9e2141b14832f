"""Prompts that are too long: counted where the question is whole, refused where it is not."""

from pathlib import Path

import pytest

from llada_exp.evals.lm.fit import PromptQuestion
from llada_exp.evals.lm.generate import Ask, InProcess
from llada_exp.evals.lm.model import LLaDALM
from llada_exp.evals.lm.records import Records
from llada_exp.evals.lm.tasks import run_lm_eval
from tests.evals.lm.test_model import asked
from tests.evals.lm.test_tasks import CHOICE, GENERATE, MODEL, offline  # noqa: F401

ENCODE = MODEL.tokenizer.encode_text


@pytest.mark.parametrize(
    ("prompt", "question", "least"),
    [
        ("Q: 1\nA: 1\n\nQ: 2 + 2?\nA:", "Q: 2 + 2?\nA:", "Q: 2 + 2?\nA:"),
        ("2 + 2? 2 + 2? So", "2 + 2? ", "2 + 2? So"),
        ("examples\n\nthe last paragraph\n", None, "the last paragraph\n"),
        ("one paragraph alone", "that is not in it", "one paragraph alone"),
        ("", None, ""),
    ],
)
def test_the_least_is_from_the_questions_last_place_to_the_end(prompt, question, least):
    assert PromptQuestion("p", lambda: question).least(list, prompt) == len(least)


def test_examples_may_be_cut_and_a_question_may_not():
    """Prevents an accuracy of prompts that were cut to their last words."""
    generator = InProcess(MODEL, ENCODE, 2, max_length=72)
    chat = MODEL.tokenizer.chat_text([{"role": "user", "content": "What is 47 + 8?"}])
    found = {}
    long = [
        Ask("example\n\n" * 40 + chat, {"max_tokens": 32}, PromptQuestion("doc 7", lambda: "What is 47 + 8?"))
    ]
    generator.answer(long, found.__setitem__)
    assert found[0].num_cut > 0
    with pytest.raises(ValueError, match=r"doc 7: its question has \d+ tokens and its answer 64, but a row"):
        generator.answer([*long, Ask(chat, {"max_tokens": 64}, long[0].question)], found.__setitem__)
    assert len(found) == 1, "refused before anything was decoded"


def test_likelihoods_too():
    lm = LLaDALM(MODEL, num_mc=1, max_length=16, question=lambda task, doc: "Tom has")
    records = lm.records
    lm.loglikelihood([asked("loglikelihood", "Ann had 3 apples. " * 9 + "Tom has", " 3 apples.")])
    assert records.counts("t").cut_to_fit == 1
    whole = LLaDALM(MODEL, num_mc=1, max_length=16)
    with pytest.raises(ValueError, match=r"task t, document 0: its question has \d+ tokens"):
        whole.loglikelihood([asked("loglikelihood", "Ann had 3 apples. " * 9 + "Tom has", " 3 apples.")])


@pytest.mark.parametrize("task", [CHOICE, GENERATE])
def test_a_task_says_how_many_or_ends(task, tmp_path):
    """As `engine.max_length` does it: of two examples before the question the first loses its start."""
    text = Path(task).read_text().replace("num_fewshot: 0", "num_fewshot: 2")
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("tiny_choice.jsonl", str(Path(task).with_name("tiny_choice.jsonl"))))
    common = {"tasks": [str(own)], "model": MODEL, "num_mc": 1, "limit": 2, "apply_chat_template": True}
    whole = run_lm_eval(folder=tmp_path / "whole", **common)
    assert whole.num_cut == 0
    longest = max(a.prompt_tokens for a in whole.answers)
    room = 64 if task == GENERATE else 16
    cut = run_lm_eval(folder=tmp_path / "cut", max_length=longest + room - 8, **common)
    (counts,) = cut.counts.values()
    assert 0 < counts.cut_to_fit <= counts.num == (2 if task == GENERATE else 8)
    assert any(a.num_cut for a in cut.answers)
    with pytest.raises(ValueError, match="expected a shorter answer"):
        run_lm_eval(folder=tmp_path / "none", max_length=8 + room, **common)


def test_records_survive_a_kill_while_their_end_is_repaired(tmp_path, monkeypatch):
    """The torn last line is cut away in place: the file is never written anew."""
    path = tmp_path / "r.jsonl"
    path.write_text('{"key": "a", "response": "x"}\n{"key": "b", "resp')
    monkeypatch.setattr(type(path), "write_bytes", None)
    Records(path)
    assert path.read_text() == '{"key": "a", "response": "x"}\n'
