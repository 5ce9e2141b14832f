"""What the embedded model has to refuse: talk, other languages, other maths, and what comes close.

Composed at random, so that the boundary is learned rather than a list: the same sentences as the model's own
questions around numbers out of range or operations that it has not; two numbers without an operation; words
and letters of chance. Standard library only.
"""

from __future__ import annotations

import random
import re

from llada_exp.tiny import phrases, stories, wordings
from llada_exp.tiny.stories import word

GREETINGS = (
    "hello", "hi", "hey", "hi there", "good morning", "good evening", "hello there", "yo", "greetings",
    "how are you", "how are you doing", "what's up", "nice to meet you", "thanks", "thank you", "bye",
    "goodbye", "ok", "okay", "yes", "no", "why", "what", "who", "help", "help me", "please", "sorry",
    "test", "testing", "ping", "start", "stop", "continue", "go on", "again", "more", "cool", "great",
    "lol", "wow", "hm", "hmm", "good", "welcome", "sure", "maybe", "never mind", "wait",
)  # fmt: skip
ABOUT = (
    "who are you", "what are you", "who made you", "what is your name", "what can you do",
    "how old are you", "are you a robot", "are you human", "what model are you", "which model is this",
    "how do you work", "what do you know", "can you help me", "do you speak german", "can you code",
    "where are you from", "who trained you", "are you chatgpt", "what is llada", "are you an ai",
    "do you like me", "can you sing", "what languages do you speak", "what is this", "can you add",
    "can you count", "do you know maths", "tell me about yourself", "introduce yourself",
    "what should i ask", "are you there", "is anybody there", "how many parameters do you have",
    "what is a diffusion model", "can you do maths", "what are your limits",
)  # fmt: skip
_SUBJECTS = (
    "the capital of {place}", "the weather in {place}", "the meaning of life", "a {noun}", "the {noun}",
    "your favourite {noun}", "the best {noun}", "love", "the time", "the date today", "history", "music",
    "the president of {place}", "the biggest {noun} in {place}", "a good {noun}", "the colour of a {noun}",
    "{word}", "the price of a {noun}", "the word {word}", "my {noun}", "gravity", "pi", "infinity", "zero",
    "the sum", "the difference", "the product", "the answer", "the number", "a number", "the result",
)  # fmt: skip
_ABOUT_SUBJECTS = (
    "What is {}?", "Who is {}?", "Tell me about {}.", "Explain {}.", "Where is {}?", "Why is {}?",
    "Write a poem about {}.", "Write a story about {}.", "How do I find {}?", "What about {}?",
    "Describe {}.", "Translate {} into French.", "Summarize {}.", "How much is {}?", "Do you like {}?",
    "What do you think of {}?", "Give me {}.", "Calculate {}.", "I want {}.", "How many {} are there?",
    "When was {}?", "Can you find {}?", "Sing about {}.", "Define {}.", "{}", "{}?", "Is {} good?",
    "Add {}.", "Subtract {}.", "Multiply {}.", "Write code for {}.", "Say {}.", "Spell {}.",
)  # fmt: skip
_PLACES = (
    "France",
    "Germany",
    "Italy",
    "Japan",
    "China",
    "London",
    "Paris",
    "Rome",
    "India",
    "Peru",
    "Kenya",
)
_NOUNS = (
    "cat", "dog", "house", "tree", "river", "city", "planet", "song", "film", "book", "car", "game",
    "apple", "computer", "language", "sentence", "number", "function", "program", "school", "friend",
    "bird", "story",
)  # fmt: skip
_FOREIGN = (
    "Hallo", "Guten Tag", "Wie geht es dir?", "Was kannst du?", "Wer bist du?", "Bonjour",
    "Comment ça va ?", "Qui es-tu ?", "Hola", "¿Cómo estás?", "¿Quién eres?", "Ciao", "Come stai?", "Olá",
    "Hej", "Привет", "Как дела?", "你好", "你是谁?", "こんにちは", "안녕하세요", "مرحبا", "Merhaba", "Cześć",
    "Danke",
    "Merci", "Gracias", "Wie heißt du?", "Erzähl mir einen Witz", "Où est la gare ?", "Dobrý den",
    "γειά σου",
)  # fmt: skip
_FOREIGN_SUMS = (
    "Was ist {0} plus {1}?", "Wie viel ist {0} und {1}?", "Combien font {0} plus {1} ?",
    "Quanto fa {0} più {1}?", "¿Cuánto es {0} más {1}?", "Wieviel ist {0} mal {1}?", "{0} und {1}",
    "Addiere {0} und {1}.", "Combien font {0} moins {1} ?", "Ile to jest {0} plus {1}?",
    "Сколько будет {0} плюс {1}?", "{0}加{1}是多少?", "Hur mycket är {0} plus {1}?", "Rechne {0} minus {1}.",
    "Quanto é {0} vezes {1}?", "Calcule {0} plus {1}.", "Berechne {0} + {1}", "Was ergibt {0} - {1}?",
)  # fmt: skip
# Of numbers alone, without an operation of the domain, or with another one.
_ONE_NUMBER = (
    "What is {}?", "{}", "{}?", "How much is {}?", "Is {} prime?", "Is {} even?", "Is {} a prime number?",
    "Factor {}.", "What is the square root of {}?", "sqrt({})", "What is the square of {}?", "{}!", "{}%",
    "{} squared", "{}^2", "log({})", "What is half of {}?", "Double {}.", "What is {} in binary?",
    "Add {}.", "Subtract {}.", "Multiply {}.", "Count to {}.", "Write {} in words.",
    "What comes after {}?", "-{}", "Round {} to tens.", "Is {} odd?", "What is {} doubled?",
    "What are the factors of {}?", "+{}", "= {}", "{} =", "{} = ?", "Take {}.", "The number {}.",
    "I am {} years old.", "I have {} apples.", "{} +", "{} -", "Give me {} names.", "What happened in {}?",
    "Say {}.", "{} plus", "{} times", "x + {} = y", "Solve x + {} = 0.", "Calculate {}.",
    "What is the sum of {}?", "What is 1/{}?", "sin({})",
)  # fmt: skip
_TWO_NUMBERS = (
    "{0} / {1}", "{0}/{1}", "{0} : {1}", "{0} ÷ {1}", "{0} divided by {1}", "{0} over {1}", "{0} ^ {1}",
    "{0}**{1}", "{0} to the power of {1}", "{0} % {1}", "{0} mod {1}", "{0} percent of {1}", "{0}% of {1}",
    "{0} modulo {1}", "{0}^{1}", "{0} // {1}", "the average of {0} and {1}", "the mean of {0} and {1}",
    "the ratio of {0} to {1}", "the greatest common divisor of {0} and {1}", "the maximum of {0} and {1}",
    "the remainder of {0} by {1}", "{0} choose {1}", "the larger of {0} and {1}",
    "{0} divided through {1}",
)  # fmt: skip
_TWO_APART = (
    "Divide {0} by {1}.", "Is {0} larger than {1}?", "Is {0} > {1}?", "Which is larger, {0} or {1}?",
    "{0} {1}", "{0}, {1}", "{0} and {1}?", "{0} or {1}?", "{0} < {1}", "{0} > {1}", "{0} = {1}",
    "Compare {0} and {1}.", "Is {0} equal to {1}?", "{0} & {1}", "({0}, {1})", "{0} to {1}", "{0};{1}",
    "Count from {0} to {1}.", "What is between {0} and {1}?", "Split {0} into {1} parts.", "{0}.{1}",
    "Share {0} among {1} people.", "Solve {0}x = {1}.", "x + {0} = {1}", "Is {0} a multiple of {1}?",
    "Give me a number from {0} to {1}.", "gcd({0}, {1})", "max({0}, {1})", "What are {0} and {1}?",
    "{0} {1} +", "+ {0} {1}", "What is {0} {1}?", "What is {0}, {1}?", "Tell me {0} {1}.", "{0}@{1}",
    "{0}#{1}", "Does {0} divide {1}?", "Tom has {0} apples and Anna has {1}. Who has more?",
    "{0} versus {1}", "If x = {0} and y = {1}, what is x / y?", "Sort {0} and {1}.",
    "How often does {0} go into {1}?",
)  # fmt: skip
_CODE = (
    "print({})", "def {}():", "SELECT * FROM {}", "import {}", "<{}>", "{}.py", "for {} in x:", "ls {}",
    "{}()", '{{"{}": 1}}', "http://{}.com", "{}@{}.org", "# {}", "[{}]", "int {};", "\\frac{{{}}}{{2}}",
)  # fmt: skip


def draw(rng: random.Random) -> str:
    """Something to be refused, at most about eighty tokens long."""
    kind = rng.random()
    if kind < 0.44:
        return _other_sum(rng)
    if kind < 0.60:
        return _loose(rng, _numbers_apart(rng))
    if kind < 0.66:
        return rng.choice(_FOREIGN_SUMS).format(*_in_range(rng))
    if kind < 0.70:
        return rng.choice(_FOREIGN)
    if kind < 0.76:
        return _loose(
            rng, rng.choice(GREETINGS) + rng.choice(("", "", "!", ".", "?", ", " + rng.choice(GREETINGS)))
        )
    if kind < 0.81:
        return _loose(rng, rng.choice(ABOUT) + rng.choice(("?", "", "?", ".")))
    if kind < 0.90:
        subject = rng.choice(_SUBJECTS).format(
            place=rng.choice(_PLACES), noun=rng.choice(_NOUNS), word=word(rng)
        )
        return _loose(rng, rng.choice(_ABOUT_SUBJECTS).format(subject))
    if kind < 0.96:
        return _loose(rng, " ".join(word(rng) for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 6)))))
    if kind < 0.98:
        return rng.choice(_CODE).format(*(word(rng) for _ in range(2)))
    return rng.choice(
        ("", "?", ".", "!", "...", "+", "-", "=", "??", ":)", "*", "/", "\\boxed{}", "####", "+ ?", "? + ?")
    )


def _in_range(rng: random.Random) -> tuple[int, int]:
    return tuple(rng.randint(0, rng.choice((9, 99, 99, 999))) for _ in range(2))  # type: ignore[return-value]


def _too_large(rng: random.Random) -> str:
    how = rng.random()
    if how < 0.55:
        return str(rng.randint(1000, rng.choice((1100, 2000, 9999, 9999, 99999, 10**6, 10**9))))
    if how < 0.75:
        return f"{rng.randint(0, rng.choice((9, 99, 999)))}.{rng.randint(0, rng.choice((9, 99)))}"
    if how < 0.85:
        return f"{rng.randint(1, 99)},{rng.randint(0, 999):03d}"
    if how < 0.93:
        return f"{rng.randint(1, 9)}/{rng.randint(2, 9)}"
    return rng.choice(("x", "y", "n", "pi", "a", "b", "two", "five", "ten", "seven", "three", "twenty", "one",
                       "zero",
                       "?", "half", "abc", word(rng)))  # fmt: skip


def _other_sum(rng: random.Random) -> str:
    """The domain's own sentences around what is not in the domain."""
    how = rng.random()
    small, other = _in_range(rng)
    if how < 0.40:  # one of the numbers, or both
        pair = [_too_large(rng), str(small) if rng.random() < 0.75 else _too_large(rng)]
        rng.shuffle(pair)
        return _in_a_sentence(rng, pair, rng.choice("++--*"))
    if how < 0.62:  # products of too many digits
        one = rng.randint(10, rng.choice((99, 99, 999)))
        pair = [str(one), str(rng.randint(100 if one < 10 else 10, rng.choice((99, 99, 999))))]
        if rng.random() < 0.4:
            pair = [str(rng.randint(0, 9)), str(rng.randint(100, 999))]
        rng.shuffle(pair)
        return _in_a_sentence(rng, pair, "*")
    if how < 0.70:
        return _loose(rng, phrases.phrase(rng, "other").format(small, other))
    if how < 0.73:
        return _loose(rng, stories.other_story(rng, small, other))
    if how < 0.80:  # another operation
        text = rng.choice(_TWO_NUMBERS).format(small, other)
        return _loose(rng, wordings.around(rng).format(text))
    if how < 0.88:
        return _loose(rng, too_many(rng))
    if how < 0.92:  # products among sums
        count = rng.choice((2, 3, 3, 4))
        signs = [rng.choice("+-") for _ in range(count)]
        signs[rng.randrange(count)] = rng.choice(("*", "/", "*"))
        numbers = [rng.randint(0, rng.choice((9, 99))) for _ in range(count + 1)]
        text = wordings.expression(rng, numbers, [s if s != "/" else "-" for s in signs])
        if "/" in signs:
            text = re.sub("|".join(wordings.SIGNS["-"]), "/", text)
        return _loose(rng, wordings.around(rng).format(text))
    if how < 0.96:  # brackets and negative numbers
        form = rng.choice(("-{0} + {1}", "(-{0}) + {1}", "{0} + -{1}", "{0} - -{1}", "{0} - (-{1})",
                           "-{0} - {1}", "({0} + {1}) * 2", "2 * ({0} + {1})", "-{0} * {1}", "-{0}+{1}",
                           "|{0} - {1}|"))  # fmt: skip
        return _loose(rng, wordings.around(rng).format(form.format(small, other)))
    nonsense = rng.choice(("{0} foo {1}", "{0} {2} {1}", "{2} {0} and {1}", "{2} + {3}", "{2} plus {3}",
                           "{2} times {3}",
                           "{2} + {1}", "{0} + {2}", "{2} {0} {3} {1}", "{2}+{3}",
                           "{2} minus {1}"))  # fmt: skip
    text = nonsense.format(small, other, word(rng), word(rng))
    return _loose(rng, wordings.around(rng).format(text))


def too_many(rng: random.Random) -> str:
    """More steps than the six that are worked: seven, which is near, more often than more."""
    count = rng.choice((7, 7, 7, 8, 8, 9, 10, 12))
    how = rng.random()
    if how < 0.2 and count < 9:
        steps = [rng.choice((1, -1)) * rng.randint(1, rng.choice((9, 99))) for _ in range(count)]
        return stories.story(rng, rng.randint(0, 99), steps, days=False)
    if how < 0.4:
        steps = [rng.choice((1, -1)) * rng.randint(1, rng.choice((9, 99))) for _ in range(count)]
        return wordings.steps_in_words(rng, rng.randint(0, 99), steps)
    numbers = [rng.randint(0, rng.choice((9, 99))) for _ in range(count + 1)]
    if how < 0.5:
        return wordings.listed(rng, numbers)
    signs = [rng.choice("+-") for _ in range(count)]
    return wordings.around(rng).format(wordings.expression(rng, numbers, signs))


def _in_a_sentence(rng: random.Random, pair: list[str], sign: str) -> str:
    if rng.random() < 0.35:
        return _loose(rng, phrases.phrase(rng, sign).format(*pair))
    text = (
        wordings.expression(rng, [10001, 20002], [sign]).replace("10001", pair[0]).replace("20002", pair[1])
    )
    return _loose(rng, wordings.around(rng).format(text))


def _numbers_apart(rng: random.Random) -> str:
    pair = _in_range(rng)
    return (
        rng.choice(_ONE_NUMBER).format(pair[0])
        if rng.random() < 0.5
        else rng.choice(_TWO_APART).format(*pair)
    )


def _loose(rng: random.Random, text: str) -> str:
    if rng.random() < 0.2:
        text = text.rstrip(".?") or text
    return wordings.decorated(rng, text, 0.2) if text else text
