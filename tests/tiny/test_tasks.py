"""The problems: right answers, a split that training cannot cross, no cheap constant answer."""

import random
import re
from collections import Counter

import pytest

from llada_exp.domain import DOMAIN, REFUSAL
from llada_exp.scoring import EXACT, Scorer, decide_response
from llada_exp.tiny import tasks
from llada_exp.tiny.judging import is_right
from llada_exp.tiny.tokenizer import build_tokenizer
from llada_exp.tiny.work import SWAPPED

ANSWERED = [kind for kind in tasks.KINDS if kind != "refusals"]


@pytest.mark.parametrize("kind", ANSWERED)
def test_the_work_gives_the_answer_and_is_of_the_questions_numbers(kind):
    rng = random.Random(1)
    for _ in range(200):
        problem = tasks.sample(kind, rng)
        lines = [line for line in problem.work.split("\n") if not line.startswith(SWAPPED)]
        heads = [re.match(r"(?:\d/\d\) )?(\d+) ([-+*]) (\d+)", line) for line in lines]
        first = heads[0]
        numbers = sorted(map(int, re.findall(r"\d+", problem.question)))
        if first[2] == "*":
            assert int(first[1]) * int(first[3]) == int(problem.answer)
            assert numbers == sorted([int(first[1]), int(first[3])])
            continue
        steps = [int(head[2] + head[3]) for head in heads]
        assert int(first[1]) + sum(steps) == int(problem.answer)
        assert numbers == sorted([int(first[1]), *map(abs, steps)])


@pytest.mark.parametrize("kind", ["sums", "differences", "products", "chains"])
def test_signs_of_the_question_are_those_of_the_work(kind):
    """Prevents wordings whose words mean another operation: `take 18 from 53` is 53 - 18."""
    rng = random.Random(2)
    for _ in range(300):
        problem = tasks.sample(kind, rng)
        text = problem.question.lower()
        found = re.search(r"(\d+)((?: *(?:\+|-|−|\*|x|×|plus|minus|times|multiplied by) *\d+)+)", text)
        if not found:
            continue
        text = found[0].replace("plus", "+").replace("minus", "-").replace("−", "-")
        text = re.sub(r"x|×|times|multiplied by", "*", text)
        assert eval(text) == int(problem.answer), problem


@pytest.mark.parametrize("kind", ANSWERED)
def test_answers_lie_in_the_domain_and_the_best_constant_one_is_rarely_right(kind):
    problems = tasks.held_out(kind, 400)
    answers = Counter(problem.answer for problem in problems)
    assert answers.most_common(1)[0][1] / len(problems) <= (0.15 if kind == "products" else 0.07)
    low = -999 if kind in ("differences", "short") else 0
    assert all(low <= int(answer) <= 1998 for answer in answers)


@pytest.mark.parametrize("kind", tasks.KINDS)
def test_held_out_problems_are_fixed_distinct_and_never_sampled(kind):
    problems = tasks.held_out(kind, 200)
    assert problems[:100] == tasks.held_out(kind, 100)
    questions = {p.question for p in problems}
    assert len(questions) == 200
    assert all(map(tasks.is_held_out, questions))
    rng = random.Random(3)
    assert not any(tasks.is_held_out(tasks.sample(kind, rng).question) for _ in range(1000))


def test_small_pairs_are_trained_in_some_wording_and_held_out_in_others():
    """Prevents `4 - 3`, which a newcomer asks first, from being in no training problem at all."""
    forms = ("What is {}?", "{}", "{} =", "How much is {}?", "Find {}.", "Solve {}.", "So {}?", "Do {}.")
    wordings = [form + n * "!" for n in range(4) for form in forms]
    pairs = [f"{a} - {b}" for a in range(10) for b in range(10)]
    questions = [wording.format(pair) for pair in pairs for wording in wordings]
    held = [tasks.is_held_out(question) for question in questions]
    assert 0 < sum(held) < len(held) / 8
    assert not any(all(held[at : at + len(wordings)]) for at in range(0, len(held), len(wordings)))


def test_a_held_out_sum_is_held_out_in_every_wording():
    """Prevents a test of the wording alone, where the sum itself was trained on."""
    (problem,) = tasks.held_out("sums", 1)
    one, other = re.findall(r"\d+", problem.question)
    for wording in (f"{one}+{other}", f"What is {other} plus {one}?", f"take {other} from {one}"):
        assert tasks.is_held_out(wording)
    assert tasks.is_held_out("Hello there") == tasks.is_held_out(" hello  THERE")


def test_answers_fit_their_canvas():
    tokenizer = build_tokenizer()
    for kind in tasks.KINDS:
        for style in tasks.STYLES:
            replies = [tasks.reply_text(p, style) for p in tasks.held_out(kind, 300)]
            longest = max(len(encoding.ids) for encoding in tokenizer.encode_batch(replies))
            assert longest + 1 <= tasks.CANVAS[kind], (kind, style)
    widest = tasks.TinyProblem("chains", "", "\n".join(tasks.chain_lines(999, [-100, 100] * 3)), "999")
    assert len(tokenizer.encode(tasks.reply_text(widest, "boxed")).ids) + 1 <= tasks.CANVAS["chains"]
    widest = tasks.TinyProblem("differences", "", tasks.chain_lines(100, [-999])[0], "-899")
    assert len(tokenizer.encode(tasks.reply_text(widest, "boxed")).ids) + 1 <= tasks.CANVAS["differences"]


def test_near_numbers_are_near_and_in_the_domain():
    rng = random.Random(4)
    pairs = [tasks.draw_near(rng) for _ in range(2000)]
    assert all(min(pair) >= 0 and max(pair) <= 999 and abs(pair[0] - pair[1]) <= 12 for pair in pairs)
    below = sum(first < second for first, second in pairs) / len(pairs)
    assert 0.4 < below < 0.6, "else the order tells which is larger"
    assert sum(abs(first - second) == 1 for first, second in pairs) > 400


@pytest.mark.parametrize("style", tasks.STYLES)
def test_the_reply_itself_is_right_and_another_is_not(style):
    problem = tasks.held_out("short", 1)[0]
    assert decide_response(tasks.reply_text(problem, style), problem.answer)
    assert not decide_response("#### 100", problem.answer)
    for variant in range(len(tasks.FRAMES[style])):
        prompt = tasks.prompt_text(problem, style, variant)
        assert ("boxed{}" in prompt) == (style == "boxed")
        assert problem.question in prompt


def test_refusing_and_answering_are_not_taken_for_each_other():
    (refused,), (asked,) = tasks.held_out("refusals", 1), tasks.held_out("sums", 1)
    with Scorer(EXACT) as scorer:
        assert is_right(scorer, refused, REFUSAL + "\n")
        assert not is_right(scorer, refused, "#### 0")
        assert not is_right(scorer, refused, "")
        assert not is_right(scorer, asked, REFUSAL)
        assert is_right(scorer, asked, tasks.reply_text(asked))
    assert DOMAIN in REFUSAL


def test_unknown_kind_is_a_value_error():
    with pytest.raises(ValueError, match="short, sums"):
        tasks.sample("medium", random.Random(0))


def test_what_the_trainer_adds_is_what_it_is_called():
    """Prevents a boundary that is met too seldom to be learned: seven steps, and 1 less than 0."""
    rng = random.Random(7)
    near = [tasks.sample("near", rng) for _ in range(200)]
    assert max(abs(int(problem.answer)) for problem in near) <= 12
    assert sum(int(problem.answer) < 0 for problem in near) > 100
    many = [tasks.sample("too_many", rng) for _ in range(200)]
    assert all(problem.refused for problem in many)
    assert min(len(re.findall(r"\d+", problem.question)) for problem in many) == 8
