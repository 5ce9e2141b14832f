"""What stands before a question: turns of the trainer's own, of every kind, and not too long."""

import random

from llada_exp.domain import REFUSAL
from llada_exp.tiny import conversations, tasks


def test_turns_are_questions_with_their_right_replies_and_never_held_out():
    rng = random.Random(0)
    drawn = [conversations.earlier(rng, "hash") for _ in range(600)]
    assert {len(turns) for turns in drawn} >= {1, 2, 3, 5, 7}
    assert not [asked for turns in drawn for asked, _ in turns if tasks.is_held_out(asked)]
    replies = [reply for turns in drawn for _, reply in turns]
    assert all(reply == REFUSAL or "\n#### " in reply for reply in replies)
    assert 0.1 < replies.count(REFUSAL) / len(replies) < 0.3, "Hello, and then a sum"
    assert max(len("".join(a + b for a, b in turns)) for turns in drawn if len(turns) > 1) <= 800


def test_a_chat_goes_on_for_as_long_as_people_talk():
    """Prevents a model that is right seven times, and then wrong half of the time."""
    rng = random.Random(0)
    drawn = [conversations.earlier(rng, "hash", many=True) for _ in range(300)]
    lengths = sorted(map(len, drawn))
    assert lengths[150] >= 12
    assert lengths[-1] >= 30
    assert max(len("".join(a + b for a, b in turns)) for turns in drawn if len(turns) > 1) <= 4000


def test_a_chat_alternates_and_ends_with_the_question():
    problem = tasks.TinyProblem("sums", "And 1 + 2?", "01 + 02: ...", "3", (("Hello", REFUSAL), ("2+2", "4")))
    chat = tasks.messages(problem)
    assert [turn["role"] for turn in chat] == ["user", "assistant"] * 2 + ["user"]
    assert [turn["content"] for turn in chat] == ["Hello", REFUSAL, "2+2", "4", "And 1 + 2?"]
    assert tasks.messages(problem, "hash", 1)[-1]["content"] == "Question: And 1 + 2?\nAnswer:"


def test_examples_are_written_as_lm_eval_writes_them():
    text = conversations.as_examples([("1+1", "01 + 01: ...\n#### 2")], "2+2")
    assert text == "Question: 1+1\nAnswer: 01 + 01: ...\n#### 2\n\nQuestion: 2+2\nAnswer:"
