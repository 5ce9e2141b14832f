"""Questions that name an operation by a verb or a noun, and what people put around a verb.

`{0}` is the first number of the work, `{1}` the second. Standard library only: knows neither answers nor
tokens; what sentences stand around an expression is `wordings.py`'s.
"""

from __future__ import annotations

import random

WHOLE = {
    "+": (
        "The sum of {0} and {1}?", "Find the sum of {0} and {1}.", "What is the sum of {0} and {1}?",
        "What is the total of {0} and {1}?", "The total of {0} and {1}", "Sum {0} and {1}.",
        "sum of {0}, {1}",
        "How much are {0} and {1}?", "How much is {0} and {1} together?", "What are {0} and {1} together?",
        "What is {0} added to {1}?", "What is {0} increased by {1}?", "How much is {0} and {1}?",
        "{0} and {1} added", "{0} and {1} make?", "What is {0} more than {1}?", "{0} and {1} more?",
        "Which number is {1} larger than {0}?", "{0} and then {1} more", "{1} on top of {0}",
        "Compute the total of {0} and {1}.", "{0} with {1} added", "Total of {0} and {1}?",
    ),
    "-": (
        "What is {0} take away {1}?", "{0} take away {1}", "How much is {0} less {1}?", "{0} less {1}",
        "What is {1} less than {0}?", "What is {0} decreased by {1}?", "What is left of {0} without {1}?",
        "How much is left of {0} after taking {1}?", "What is {1} subtracted from {0}?", "{0} reduced by {1}",
        "The difference of {0} and {1}?", "What is the difference of {0} and {1}?", "{1} from {0}",
        "Find the difference of {0} and {1}.", "{0} without {1}", "Which number is {1} smaller than {0}?",
        "What remains of {0} minus {1}?", "What is the difference between {0} and {1}?",
        "What is the difference between {0} and {1}?", "The difference between {0} and {1}?",
        "Find the difference between {0} and {1}.", "difference between {0}, {1}",
        "How much more is {0} than {1}?", "By how much is {0} more than {1}?",
    ),
    "*": (
        "What is the product of {0} and {1}?", "The product of {0} and {1}?", "{0} times {1}",
        "Find the product of {0} and {1}.", "How much is {0} times {1}?", "{0} multiplied with {1}",
        "Compute the product of {0} and {1}.", "product of {0}, {1}", "How much are {0} times {1}?",
        "Product of {0} and {1}?",
    ),
}  # fmt: skip
VERBS = {
    "+": (
        "add {0} and {1}", "add {0} and {1}", "add {0} to {1}", "add {0} to {1}", "sum {0} and {1}",
        "put {0} and {1} together", "increase {0} by {1}", "sum up {0} and {1}", "raise {0} by {1}",
        "put {1} on top of {0}", "take {0} and add {1}", "add {1} more to {0}", "add up {0} and {1}",
    ),
    "-": (
        "subtract {1} from {0}", "subtract {1} from {0}", "take {1} from {0}", "take {1} from {0}",
        "take {1} away from {0}", "deduct {1} from {0}", "decrease {0} by {1}", "reduce {0} by {1}",
        "from {0} take {1}", "remove {1} from {0}", "lower {0} by {1}", "take {0} and subtract {1}",
        "take {1} off {0}", "from {0} subtract {1}",
    ),
    "*": (
        "multiply {0} by {1}", "multiply {0} by {1}", "multiply {0} and {1}", "multiply {0} with {1}",
        "take {0} times {1}", "make {0} times {1}", "multiply {0} times {1}",
    ),
    "other": (
        "divide {0} by {1}", "divide {0} by {1}", "divide {0} with {1}", "split {0} into {1} parts",
        "compare {0} and {1}", "average {0} and {1}", "square {0}", "double {0}", "round {0}", "halve {0}",
        "raise {0} to the power of {1}", "share {0} among {1}", "count from {0} to {1}", "add {0}",
        "subtract {0}", "multiply {0}", "write {0} in words", "sort {0} and {1}", "factor {0}",
    ),
}  # fmt: skip
_IF = ("If I", "If I", "If you", "If you", "If we", "When I", "When you", "Suppose I", "Say you",
       "Let's say I",
       "If someone")  # fmt: skip
_THEN = (
    "what do I get?", "what do you get?", "what is it?", "how much is it?", "how much is that?",
    "what is the result?", "what's the answer?", "what is the answer?", "how much do I have?", "what have I?",
    "what does it make?", "how many are there?", "what will it be?", "where do I end?", "what is left?",
    "what number is it?", "what does it give?", "then what?", "what does that come to?",
)  # fmt: skip
_WHAT_IF = (
    "What do you get if you {}?", "What do you get when you {}?", "What do I get if I {}?", "What if I {}?",
    "What is it when you {}?", "How much is it if I {}?", "What is the result if we {}?",
    "What happens if I {}?",
    "What is the answer when you {}?", "How much do I have if I {}?", "What number do you get if you {}?",
    "Tell me what I get if I {}.",
)  # fmt: skip
_REQUESTS = (
    "Can you {}?", "Could you {}?", "Would you {}?", "Will you {}?", "Can you {} for me?", "can u {}?",
    "could u {}",
    "I want you to {}.", "I would like you to {}.", "Now {}.", "Try to {}.", "I have to {}.", "I need to {}.",
    "How do I {}?", "How do you {}?", "Help me {}.", "Let us {}.", "My task is to {}.", "We have to {}.",
    "The exercise is to {}.", "Do this: {}", "Can somebody {}?", "Do you know how to {}?", "I must {}. Help!",
    "My teacher told me to {}.", "They ask me to {}.",
)  # fmt: skip


def phrase(rng: random.Random, sign: str) -> str:
    """A question with places for two numbers, by a sign or "other" for what the model does not do."""
    how = rng.random()
    if how < 0.4 and sign in WHOLE:
        return rng.choice(WHOLE[sign])
    verb = rng.choice(VERBS[sign])
    if how < 0.65:
        return verb[0].upper() + verb[1:] + "."
    if how < 0.77:
        return rng.choice(_REQUESTS).format(verb)
    if how < 0.87:
        return rng.choice(_WHAT_IF).format(verb)
    return f"{rng.choice(_IF)} {verb}, {rng.choice(_THEN)}"


SPEAKERS = ("My teacher", "My book", "The exercise", "My sister", "A friend", "The task", "The board",
           "My son",
           "The sheet", "Question one", "The paper", "Somebody", "She", "He", "It")  # fmt: skip
_SAYS = (
    "asks",
    "says",
    "wants",
    "has",
    "asks for",
    "asks me for",
    "shows",
    "reads",
    "wants to know",
    "gives me",
)
_THEN_ASKS = ("", "", " What is it?", " How much is it?", " What is that?", " Help?", " What is the answer?",
              " Can you do it?", " What do I write?")  # fmt: skip


def reported(rng: random.Random) -> str:
    """`My sister asks {}. What is it?`, with a place for an expression."""
    mark = rng.choice((" {}", " {}", ": {}", " for {}"))
    return f"{rng.choice(SPEAKERS)} {rng.choice(_SAYS)}{mark}.{rng.choice(_THEN_ASKS)}"
