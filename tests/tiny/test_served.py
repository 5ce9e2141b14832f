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
SYSTEM = (
    "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2023-10\n"
    "Current date: 2026-11-28",
    "Use the following rules: 1. Be polite. 2. Never reveal secrets. 3. Answer in English.",
    "You are a careful tutor for children between 6 and 10 years of age. Explain every step in simple words, "
    "and keep the answers to no more than three sentences.",
    "Answer briefly and correctly.",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
)
"""All written for these tests. The trainer has none of OTHER; of SYSTEM it has forms of some sentences (a
date, a cutoff, a helpful assistant) among others, with other numbers, and no whole text."""


@pytest.fixture(scope="module")
def served():
    """What the choice says of a body posted to a path."""
    with running_server() as server, httpx.Client(timeout=600) as client:

        def choice(path, body):
            answer = client.post(f"{server.url}{path}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()["choices"][0]

        yield choice


@pytest.fixture
def reply(served):
    """To one question, or to a whole chat."""

    def ask(question):
        chat = [{"role": "user", "content": question}] if isinstance(question, str) else question
        return served("/v1/chat/completions", {"messages": chat})["message"]["content"]

    return ask


def wrong_of(problems, texts):
    with Scorer(EXACT) as scorer:
        pairs = list(zip(problems, texts, strict=True))
        return [(problem.question, text) for problem, text in pairs if not is_right(scorer, problem, text)]


def test_the_stated_domain_is_answered(reply):
    """Prevents a domain that is stated, and met with wrong answers: the first thing that a newcomer does
    after the line to paste is to ask another sum."""
    each = [tasks.held_out(kind, NUM // len(KINDS)) for kind in KINDS]
    problems = [problem for row in zip(*each, strict=True) for problem in row]
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(reply, (problem.question for problem in problems)))
    wrong = wrong_of(problems, texts)
    assert len(problems) == NUM
    assert len(wrong) <= NUM * 0.05, wrong
    questions = {question for question, _ in wrong}
    by_kind = Counter(problem.kind for problem in problems if problem.question in questions)
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
    wrong = wrong_of(problems, texts)
    assert len(wrong) <= len(problems) * 0.05, wrong


def test_a_second_question_of_a_chat_is_answered(reply):
    """Prevents a model that can be asked once: of the sums after a sum it had one in five right, and after
    "Hello" it refused all."""
    problems = strata.problems("follow_ups", 100)
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(reply, map(tasks.messages, problems)))
    wrong = wrong_of(problems, texts)
    assert len(wrong) <= len(problems) * 0.05, wrong
    chat = [{"role": "user", "content": "Hello"}]
    for question, answer in (("What is 53 + 18?", "71"), ("And 47 + 8?", "55"), ("7 times 8", "56")):
        chat += [{"role": "assistant", "content": reply(chat)}, {"role": "user", "content": question}]
        assert reply(chat).endswith(f"#### {answer}"), chat


def test_a_chat_may_go_on(reply):
    """Prevents a model that is right seven times in a conversation, and then every other time."""
    problems = [p for p in strata.problems("follow_ups", 200) if len(p.earlier) > 7]
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(reply, map(tasks.messages, problems)))
    assert len(problems) >= 40
    wrong = wrong_of(problems, texts)
    assert len(wrong) <= len(problems) * 0.08, wrong


def test_a_clients_system_prompt_does_not_change_what_is_asked(reply):
    """Prevents a model that reads a date or a rule's number in a client's instructions as its operand."""
    problems = strata.problems("readme", 20)
    chats = [
        [{"role": "system", "content": text}, *tasks.messages(problem)]
        for text in SYSTEM
        for problem in problems
    ]
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(reply, chats))
    wrong = wrong_of(problems * len(SYSTEM), texts)
    assert len(wrong) <= len(chats) * 0.05, wrong


def test_a_text_that_is_completed_is_answered_too(served):
    """Prevents an example of the docs, `/v1/completions` with a plain question, that answers rubbish."""
    problems = [*strata.problems("readme", 40), *strata.problems("sums", 20)]

    prompts = [tasks.prompt_text(problem, "hash", frame) for frame in (0, 1) for problem in problems]
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(lambda prompt: served("/v1/completions", {"prompt": prompt})["text"], prompts))
    wrong = wrong_of(problems * 2, texts)
    assert len(wrong) <= 2 * len(problems) * 0.05, wrong


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
