"""How people ask the embedded model for one operation, or for several in a row: composed at random.

An expression or a phrase with its operation, a sentence around it, a greeting before it, thanks after it,
then casing and spacing. Standard library only: knows neither answers nor tokens.
"""

from __future__ import annotations

import random

from llada_exp.tiny import phrases

SIGNS = {"+": ("+", "+", "+", "plus", "plus"), "-": ("-", "-", "-", "−", "minus", "minus"),
         "*": ("*", "*", "x", "×", "times", "times", "times", "multiplied by")}  # fmt: skip

# Around an expression such as `53 + 18`.
SENTENCES = (
    "What is {}?", "What is {}?", "What is {}?", "What's {}?", "How much is {}?", "How much is {}?",
    "{} = ?", "{}=?", "{}=", "{} =", "{}", "{}", "{}?", "Calculate {}.", "Compute {}.", "Evaluate {}.",
    "Work out {}.", "Find {}.", "Solve {}.", "Solve: {}", "Calculate: {}", "Tell me {}.",
    "Tell me what {} is.", "Can you tell me what {} is?", "Do you know what {} is?", "What does {} equal?",
    "What does {} make?", "How much does {} make?", "What do you get for {}?", "{} equals?",
    "({})", "{} equals what?", "{} is what?", "{} makes?", "Give me the result of {}.",
    "What is the result of {}?", "What is the value of {}?", "What is the answer to {}?",
    "Can you calculate {}?", "Could you work out {} for me?", "I need {}.", "I want to know {}.",
    "Do the sum {}.", "Find the value of {}.", "What will {} be?", "{}, what is it?", "Determine {}.",
    "Would you calculate {}?", "Would you tell me what {} is?", "Please say how much {} is.",
    "I wonder what {} is.", "I would like to know {}.", "Any idea what {} is?", "How do I calculate {}?",
    "What could {} be?", "What should {} come to?", "{} comes to?", "{} comes to what?",
    "I got {}. What is that?",
    "On the board is {}.", "Here is {}.", "Whats {}?", "whats {}", "can u do {}", "could u work out {}",
    "pls compute {}", "What might {} be?", "How much would {} make?", "How big is {}?", "{} please",
    "Result of {}?", "Value of {}?", "I am stuck at {}.", "I have to find {}.", "We need {}.",
    "Say what {} is.",
    "What comes out of {}?", "How would you do {}?", "Check {}.", "Show me {}.", "Let us do {}.",
    "Simplify {}.", "How many is {}?", "What number is {}?", "Let me know what {} is.",
    "The result of {} is?", "Do {}.", "So {}?", "And {}?", "{} is equal to", "{} gives?",
    "What about {}?", "And what about {}?", "How about {}?", "Now what is {}?", "Then what is {}?",
)  # fmt: skip
# Around three numbers or more that are added.
LISTS = (
    "Add {}.", "Add {}.", "Add up {}.", "Sum {}.", "Sum up {}.", "What is the sum of {}?",
    "What is the sum of {}?", "The sum of {}?", "Find the sum of {}.", "What is the total of {}?",
    "The total of {}", "Total of {}?", "sum of {}", "How much are {} together?", "How much is {} together?",
    "What are {} together?", "Can you add {}?", "Could you add up {}?", "What do I get if I add {}?",
    "What do you get when you add {}?", "If I add {}, what do I get?", "Put {} together.",
    "I need to add {}.",
    "What is {} in total?", "{} in all?", "Compute the sum of {}.", "Calculate the total of {}.",
)  # fmt: skip
BEFORE = (
    "Please ", "Please ", "Hello! ", "Hello. ", "Hi, ", "Hi! ", "Hey, ", "Hi there! ", "Good morning. ",
    "Quick question: ", "Question: ", "Now: ", "OK, ", "Ok. ", "Well, ", "Math: ", "Exercise: ",
    "Problem: ", "Here is a problem: ", "Can you help me? ", "Please help. ", "Help me: ", "Next: ",
    "My question is: ", "Dear model, ", "So, ", "Please answer: ", "Answer this: ", "Please solve. ",
    "Just tell me: ", "Tell me: ", "Then ", "Quick: ", "A simple one: ", "Let us try: ",
)  # fmt: skip
AFTER = (
    " please", ", please", ", please?", " Please.", " Thanks!", " Thank you.", " Thank you!", " thanks",
    "!", "??", " Think step by step.", " Show your work.", " Explain.", " Step by step, please.",
    " Quickly!", " Be careful.", " Give only the number.", " I am not sure.", " :)", " ...",
    " Do you know?", " Can you do it?",
)  # fmt: skip


def expression(rng: random.Random, numbers: list[int], signs: list[str]) -> str:
    """`numbers` with `signs` between them: symbols or words, with and without spaces."""
    in_words = rng.random() < 0.25
    names = {}
    for sign, all_names in SIGNS.items():
        fitting = [name for name in all_names if (name[0] in "pmt") == in_words]
        names[sign] = rng.choice(fitting)
    spaced = rng.choices(("both", "none", "one", "two"), (0.57, 0.35, 0.05, 0.03))[0]
    text = str(numbers[0])
    for sign, number in zip(signs, numbers[1:], strict=True):
        name = names[sign]
        if in_words or spaced == "both":
            text += f" {name} {number}"
        elif spaced == "one":
            text += rng.choice((f" {name}{number}", f"{name} {number}"))
        else:
            text += f"{name}{number}" if spaced == "none" else f"  {name}  {number}"
    return text


def sentence(rng: random.Random, numbers: list[int], signs: list[str]) -> str:
    """A question for an expression; for one operation, sometimes a phrase instead."""
    sign = signs[0]
    if len(signs) == 1 and rng.random() < 0.4:
        one, other = numbers
        return _loosely(rng, phrases.phrase(rng, sign).format(one, other))
    return _loosely(rng, around(rng).format(expression(rng, numbers, signs)))


def around(rng: random.Random) -> str:
    """A sentence with a place for an expression."""
    return phrases.reported(rng) if rng.random() < 0.06 else rng.choice(SENTENCES)


def listed(rng: random.Random, numbers: list[int]) -> str:
    """`What is the sum of 5, 6 and 7?`: a total of three numbers or more."""
    *most, last = map(str, numbers)
    link = rng.choice((" and ", " and ", " and ", ", ", ", and "))
    text = " and ".join([*most, last]) if rng.random() < 0.15 else ", ".join(most) + link + last
    return _loosely(rng, decorated(rng, rng.choice(LISTS).format(text), 0.1))


def steps_in_words(rng: random.Random, start: int, steps: list[int]) -> str:
    """`Start with 12, add 5, then take away 8.`"""
    first = rng.choice(
        (
            "Start with {}",
            "Take {}",
            "Begin with {}",
            "Start at {}",
            "{}",
            "I have {}",
            "From {}",
            "Go from {}",
        )
    ).format(start)
    add = rng.choice((("add {}", "take away {}"), ("add {}", "subtract {}"), ("plus {}", "minus {}"),
                      ("add {}", "take {}"), ("add {}", "remove {}"), ("{} more", "{} less"),
                      ("go up {}", "go down {}"), ("put {} on", "take {} off")))  # fmt: skip
    link = rng.choice((", ", ", ", ", then ", ", and ", "; ", ", and then ", ". Then ", ". "))
    if rng.random() < 0.15:  # the first step names both of its numbers
        verb = rng.choice(phrases.VERBS["-" if steps[0] < 0 else "+"]).format(start, abs(steps[0]))
        first, steps = verb[0].upper() + verb[1:], steps[1:]
    text = first + "".join(link + add[step < 0].format(abs(step)) for step in steps)
    text += rng.choice(
        (".", ".", "", ". What is the result?", ". What do you get?", ". How much is it?", "?")
    )
    return _loosely(rng, text)


def decorated(rng: random.Random, text: str, share: float = 0.3) -> str:
    """With a greeting or thanks, each with a probability of `share`."""
    if rng.random() < share:
        text = rng.choice(BEFORE) + (text[0].lower() + text[1:] if rng.random() < 0.5 else text)
    if rng.random() < 0.7 * share:
        after = rng.choice(AFTER)
        text = (text.rstrip(".") if after[0] in ",!?" or after[1:].islower() else text) + after
    return text


def cased(rng: random.Random, text: str) -> str:
    """As it is, in small letters, in capitals, or each word with a capital."""
    how = rng.random()
    return (
        text if how < 0.66 else text.lower() if how < 0.92 else text.upper() if how < 0.98 else text.title()
    )


def _loosely(rng: random.Random, text: str) -> str:
    """Sometimes without its last mark, or with another one."""
    how = rng.random()
    if how < 0.2:
        return text.rstrip(".?")
    return text.rstrip(".?") + rng.choice("?.!") if how < 0.26 else text
