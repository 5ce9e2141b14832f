"""The task generator: right work, a split that training cannot cross, no cheap constant answer."""

import random
import re
from collections import Counter

import pytest

from llada_exp.scoring import decide_response
from llada_exp.tiny import tasks
from llada_exp.tiny.data import _GREETINGS, BatchMaker
from llada_exp.tiny.tokenizer import build_tokenizer, chat_prompt


@pytest.mark.parametrize("kind", tasks.KINDS)
def test_work_is_right_and_each_line_starts_from_the_one_before(kind):
    rng = random.Random(1)
    for _ in range(300):
        problem = tasks.sample(kind, rng)
        total = None
        for text in problem.work.split("\n"):
            found = re.fullmatch(r"(?:\w+: )?(\d\d) ([+-]) (\d+): (\d\d) \2 (\d) = (\d\d), (\d\d)", text)
            assert found, text
            before, sign, step, left, digit, result, after = found.groups()
            assert total in (None, before)
            assert eval(f"{int(before)} {sign} {int(step)}") == int(after)
            assert eval(f"{int(left)} {sign} {int(digit)}") == int(result)
            total = after
        assert problem.answer == str(int(total))
        assert 0 <= int(total) <= 99


def test_numbers_of_the_question_give_the_answer():
    rng = random.Random(2)
    for _ in range(300):
        problem = tasks.sample("short", rng)
        text = problem.question.replace("plus", "+").replace("minus", "-")
        text = re.sub(r"\b(?:loses|sells|uses|drops) ", "-", text)
        text = re.sub(r"\b(?:gets|finds|buys|wins) ", "+", text).replace(" ", "")
        assert sum(int(n) for n in re.findall(r"[+-]?\d+", text)) == int(problem.answer), problem


@pytest.mark.parametrize("kind", tasks.KINDS)
def test_best_constant_answer_is_at_most_five_percent(kind):
    problems = tasks.held_out(kind, 500)
    assert Counter(p.answer for p in problems).most_common(1)[0][1] / len(problems) <= 0.05


@pytest.mark.parametrize("kind", tasks.KINDS)
def test_held_out_problems_are_fixed_distinct_and_never_sampled(kind):
    problems = tasks.held_out(kind, 500)
    assert problems[:100] == tasks.held_out(kind, 100)
    questions = {p.question for p in problems}
    assert len(questions) == 500
    assert all(map(tasks.is_held_out, questions))
    rng = random.Random(3)
    assert not any(tasks.is_held_out(tasks.sample(kind, rng).question) for _ in range(3000))


def test_training_batches_hold_no_held_out_question():
    tokenizer = build_tokenizer(samples=500)
    maker = BatchMaker(tokenizer, seed=0, tokens_per_batch=2048)
    head, tail = chat_prompt("\0").split("\0")
    for number in range(6):
        for row in maker.batch(number, {"short": 1.0, "long": 1.0}).targets.tolist():
            text = tokenizer.decode(row, skip_special_tokens=False)
            question = text[len(head) : text.index(tail)]
            question = question.replace(
                tasks._BOXED_PROMPTS[0].split("{question}")[0].replace("{{}}", "{}"), ""
            )
            for greeting in _GREETINGS:
                question = question.removeprefix(greeting)
            question = question.split("\nPut the answer")[0].split(" Give the final answer")[0]
            assert re.search(r"\d", question)
            assert not tasks.is_held_out(question)


def test_long_answers_span_three_blocks_and_short_ones_fit_their_canvas():
    tokenizer = build_tokenizer()
    sizes = {
        kind: [len(tokenizer.encode(tasks.reply_text(p)).ids) for p in tasks.held_out(kind, 300)]
        for kind in tasks.KINDS
    }
    assert min(sizes["long"]) >= 65
    assert max(sizes["long"]) <= 120
    assert max(sizes["short"]) + 2 <= 64


@pytest.mark.parametrize("style", tasks.STYLES)
def test_the_reply_itself_is_correct_and_another_is_not(style):
    problem = tasks.held_out("short", 1)[0]
    assert decide_response(tasks.reply_text(problem, style), problem.answer)
    assert not decide_response("#### 100", problem.answer)
    assert not decide_response("", problem.answer)
    assert ("boxed" in tasks.prompt_text(problem, style)) == (style == "boxed")


def test_unknown_kind_is_a_value_error():
    with pytest.raises(ValueError, match="short, long"):
        tasks.sample("medium", random.Random(0))
