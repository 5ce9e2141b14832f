"""What is to be refused: plentiful, and never something that the model should answer."""

import random
import re

from llada_exp.tiny import refusals, tasks
from llada_exp.tiny.tokenizer import build_tokenizer, chat_prompt

_NUMBER = r"(?<![\d.,/-])\d{1,3}(?![\d.,/%^]*\d|[%^!])"
_SIMPLE = re.compile(rf"[^\w|]*({_NUMBER}) *(\+|-|plus|minus|\*|x|×|times) *({_NUMBER})[^\w|]*")
_CHAIN = re.compile(r"[^\w|.,−-]*\d{1,3}(?: *(?:\+|-|−|plus|minus) *\d{1,3}){1,6}[^\w|%^!&@]*")


def in_domain(text):
    """Whether a text is a bare operation that the model can do, or up to six sums in a row."""
    if _CHAIN.fullmatch(text.lower()):
        return True
    found = _SIMPLE.fullmatch(text.lower())
    if not found or any(len(found[i]) > 3 for i in (1, 3)):
        return False
    digits = sorted((len(found[1]), len(found[3])))
    return found[2] in ("+", "-", "plus", "minus") or digits in ([1, 1], [1, 2])


def test_nothing_that_could_be_answered_is_refused():
    """Prevents a boundary that runs through the domain."""
    rng = random.Random(0)
    assert in_domain("53+18 =?")
    assert in_domain("7 x 48")
    assert not in_domain("17 x 48")
    assert in_domain("1+2-3+4-5+6-7 =")
    assert not in_domain("1+2-3+4-5+6-7+8 =")
    for _ in range(20_000):
        text = refusals.draw(rng)
        assert not in_domain(text), text


def test_they_vary_with_and_without_numbers():
    rng = random.Random(1)
    drawn = [refusals.draw(rng) for _ in range(3000)]
    assert len(set(drawn)) > 2500
    assert 0.4 < sum(any(char.isdigit() for char in text) for text in drawn) / len(drawn) < 0.8
    assert {"?", "Hallo"} <= set(drawn)
    assert "" in drawn, "an empty question, too"


def test_more_steps_than_are_worked_are_refused_from_the_seventh_on():
    """Prevents a boundary that is stated (up to six sums), and trained from the eighth on: seven steps
    were neither worked nor refused."""
    rng = random.Random(3)
    drawn = [refusals.draw(rng) for _ in range(6000)]
    counts = [len(re.findall(r"\d+", text)) for text in drawn]
    assert counts.count(8) > 20, "a chain of seven steps names eight numbers"
    assert sum(count > 8 for count in counts) > 20
    forms = [text for text, count in zip(drawn, counts, strict=True) if count == 8]
    assert any("How" in text for text in forms), "stories, too"
    assert any(", " in text and "+" not in text for text in forms), "lists and steps in words, too"


def test_prompts_stay_short():
    rng = random.Random(2)
    tokenizer = build_tokenizer()
    sizes = [len(tokenizer.encode(chat_prompt(refusals.draw(rng))).ids) for _ in range(2000)]
    assert max(sizes) < 160


def test_the_sentence_is_the_whole_reply():
    (problem,) = tasks.held_out("refusals", 1)
    assert tasks.reply_text(problem) == tasks.reply_text(problem, "boxed")
    assert problem.refused
    assert not problem.answer
