"""Small stories whose answer is a chain of sums or one product. Standard library only."""

from __future__ import annotations

import random

PEOPLE = (("Tom", "he"), ("Sam", "he"), ("Ben", "he"), ("Leo", "he"), ("Max", "he"), ("Peter", "he"),
          ("Anna", "she"), ("Mia", "she"), ("Eva", "she"), ("Lily", "she"), ("Sara", "she"),
          ("Emma", "she"))  # fmt: skip
THINGS = (
    "apples", "books", "coins", "cards", "eggs", "pens", "stamps", "marbles", "stones", "shells", "pears",
    "cookies", "balls", "flowers", "stickers", "toys", "candies", "oranges", "pencils", "dollars",
)  # fmt: skip
GAIN = ("gets", "finds", "buys", "wins", "receives", "collects", "is given")
LOSS = ("loses", "sells", "uses", "drops", "gives away", "eats", "breaks")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_ENDS = ("How many {thing} does {who} have?", "How many {thing} does {who} have now?",
         "How many {thing} does {who} have in the end?", "How many {thing} are there now?",
         "How many are left?", "How many {thing} does {who} have left?")  # fmt: skip
_PLACES = (
    ("A bus has {} passengers.", ("{} get on.", "{} people get on."), ("{} get off.", "{} people get off."),
     "How many passengers are on the bus?"),
    ("There are {} birds in a tree.", ("{} come.", "{} more come."), ("{} fly away.", "{} leave."),
     "How many birds are in the tree?"),
    ("There are {} people in a room.", ("{} come in.", "{} more arrive."), ("{} leave.", "{} go out."),
     "How many people are in the room?"),
    ("A shop has {} loaves of bread.", ("It bakes {} more.", "It gets {} more."), ("It sells {}.",
     "{} are sold."),
     "How many loaves does it have?"),
    ("A box holds {} balls.", ("{} are added.", "{} are put in."), ("{} are taken out.", "{} are removed."),
     "How many balls are in the box?"),
)  # fmt: skip


def story(rng: random.Random, start: int, steps: list[int], days: bool) -> str:
    """`start` changed by each of `steps`, of 1 to 999; with `days`, each on a day of its own."""
    thing = rng.choice(THINGS)
    (name, pronoun), (other, _) = rng.sample(PEOPLE, 2)
    if not days and rng.random() < 0.25:
        first, more, less, end = rng.choice(_PLACES)
        return " ".join(
            [first.format(start), *(rng.choice((more, less)[s < 0]).format(abs(s)) for s in steps), end]
        )
    if len(steps) == 1 and steps[0] > 0 and rng.random() < 0.2:
        second = steps[0]
        return rng.choice((
            f"{name} has {start} {thing} and {other} has {second}. How many do they have together?",
            f"{name} has {start} {thing}. {other} has {second} more than {name}. How many does {other} have?",
            f"There are {start} {thing} on one table and {second} on another. How many {thing} are there?",
        ))  # fmt: skip
    parts = [f"{name} {rng.choice(('has', 'has', 'starts with', 'owns'))} {start} {thing}."]
    for number, step in enumerate(steps):
        verb = rng.choice(LOSS if step < 0 else GAIN)
        who = f"On {DAYS[number]} {pronoun}" if days else pronoun.capitalize()
        if number and not days and rng.random() < 0.5:
            who = rng.choice((f"Then {pronoun}", f"Later {pronoun}", f"After that {pronoun}"))
        what = rng.choice(("", "", f" {thing}", " more" if step > 0 else " of them"))
        parts.append(f"{who} {verb} {abs(step)}{what}.")
    parts.append(rng.choice(_ENDS).format(thing=thing, who=rng.choice((name, pronoun))))
    return " ".join(parts)


def product_story(rng: random.Random, one: int, other: int) -> str:
    """`one` groups of `other` things."""
    thing, name = rng.choice(THINGS), rng.choice(PEOPLE)[0]
    return rng.choice((
        f"There are {one} boxes with {other} {thing} each. How many {thing} are there?",
        f"There are {one} bags of {other} {thing}. How many {thing} are there in all?",
        f"{name} buys {one} packs of {other} {thing}. How many {thing} is that?",
        f"One box holds {other} {thing}. How many {thing} do {one} boxes hold?",
        f"{name} has {one} rows of {other} {thing}. How many {thing} does {name} have?",
        f"A ticket costs {other} dollars. How much do {one} tickets cost?",
    ))  # fmt: skip
