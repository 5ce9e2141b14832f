"""What a newcomer meets: a server of all defaults, asked by fields that name nothing but the question."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from llada_exp.domain import REFUSAL
from llada_exp.gate import strata
from llada_exp.jobs import running_server
from llada_exp.scoring import EXACT, Scorer
from llada_exp.tiny import tasks
from llada_exp.tiny.judging import is_right

NUM = 300
KINDS = [kind for kind in tasks.PARTS if kind != "refusals"]
OTHER = (
    "Good evening!", "How's it going?", "Which model are you?", "Tell me about your training data.",
    "What's the weather like in Berlin?", "Write a haiku about autumn.", "Kannst du Deutsch?",
    "Qu'est-ce que tu fais ?", "今日はいい天気", "What is 144 / 12?", "What is 17 mod 5?", "Factorial of 6",
    "What is the integral of x^2?", "3.14 + 2.72", "2500 + 1300", "Is 91 a prime number?",
    "Translate 'house' into Spanish.", "def f(x): return x + 1", "lorem ipsum dolor sit amet", "",
)  # fmt: skip
"""Written for this test; the trainer has none of them."""


@pytest.fixture(scope="module")
def reply():
    with running_server() as server, httpx.Client(timeout=600) as client:

        def ask(question):
            body = {"messages": [{"role": "user", "content": question}]}
            answer = client.post(f"{server.url}/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()["choices"][0]["message"]["content"]

        yield ask


def test_the_stated_domain_is_answered(reply):
    """Prevents a domain that is stated, and met with wrong answers: the first thing that a newcomer does
    after the line to paste is to ask another sum."""
    each = [tasks.held_out(kind, NUM // len(KINDS)) for kind in KINDS]
    problems = [problem for row in zip(*each, strict=True) for problem in row]
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(reply, (problem.question for problem in problems)))
    with Scorer(EXACT) as scorer:
        pairs = list(zip(problems, texts, strict=True))
        wrong = [(problem, text) for problem, text in pairs if not is_right(scorer, problem, text)]
    assert len(problems) == NUM
    assert len(wrong) <= NUM * 0.05, wrong
    by_kind = Counter(problem.kind for problem, _ in wrong)
    assert all(by_kind[kind] <= 0.14 * NUM // len(KINDS) for kind in KINDS), "the mean hid a kind"


def test_small_and_near_numbers_are_told_apart(reply):
    """Prevents `4 - 3` and `999 - 998` from being guessed, as they were while a mean over all differences was
    98 %: every sum and difference of two digits as it would be typed first, and near numbers of any size."""
    small = [
        tasks.plain_question(a, sign * b) for a in range(1, 10) for b in range(1, 10) for sign in (1, -1)
    ]
    problems = [*small, *strata.problems("near", 100)]
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(reply, (problem.question for problem in problems)))
    with Scorer(EXACT) as scorer:
        pairs = list(zip(problems, texts, strict=True))
        wrong = [(problem.question, text) for problem, text in pairs if not is_right(scorer, problem, text)]
    assert len(wrong) <= len(problems) * 0.05, wrong


def test_the_difference_between_two_numbers_is_asked_for_and_not_talk(reply):
    """`What is between 3 and 7?` is not of the domain, and so was the most usual question for a difference
    told that it is not."""
    forms = ("What is the difference between {} and {}?", "what is the difference between {} and {}",
             "What's the difference between {} and {}?", "Difference between {} and {}?")  # fmt: skip
    pairs = ((88, 19), (45, 12), (300, 120), (9, 4), (530, 8), (71, 68), (999, 1))
    questions = {form.format(*pair): str(pair[0] - pair[1]) for form in forms for pair in pairs}
    with ThreadPoolExecutor(16) as pool:
        texts = dict(zip(questions, pool.map(reply, questions), strict=True))
    wrong = [(q, texts[q]) for q, answer in questions.items() if not texts[q].endswith(f"#### {answer}")]
    assert len(wrong) <= 2, wrong
    for other in ("What is the difference between a cat and a dog?", "What is between 3 and 7?"):
        assert reply(other).strip() == REFUSAL


def test_anything_else_is_told_what_can_be_asked(reply):
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(reply, OTHER))
    wrong = [pair for pair in zip(OTHER, texts, strict=True) if pair[1].strip() != REFUSAL]
    assert not wrong
