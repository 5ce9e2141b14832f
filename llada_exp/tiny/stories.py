"""Small stories whose answer is a chain of sums or one product. Standard library only."""

from __future__ import annotations

import random
import string

PEOPLE = (("Tom", "he"), ("Sam", "he"), ("Ben", "he"), ("Leo", "he"), ("Max", "he"), ("Peter", "he"),
          ("Jack", "he"), ("David", "he"), ("Omar", "he"), ("Karl", "he"), ("Luis", "he"), ("Noah", "he"),
          ("Anna", "she"), ("Mia", "she"), ("Eva", "she"), ("Lily", "she"), ("Sara", "she"), ("Emma", "she"),
          ("Jane", "she"), ("Rosa", "she"), ("Zoe", "she"), ("Maria", "she"), ("Clara", "she"), ("Ida",
          "she"),
          ("My friend", "he"), ("The teacher", "she"), ("A girl", "she"), ("A boy", "he"))  # fmt: skip
THINGS = (
    "apples", "books", "coins", "cards", "eggs", "pens", "stamps", "marbles", "stones", "shells", "pears",
    "cookies", "balls", "flowers", "stickers", "toys", "candies", "oranges", "pencils", "dollars", "points",
    "cents", "cups", "fish", "nuts", "keys", "cows", "hens", "plates", "photos", "tickets", "lemons", "cakes",
    "bottles", "buttons", "plants", "pounds",
)  # fmt: skip
# Each in the present and in the past.
GAIN = (("gets", "got"), ("finds", "found"), ("buys", "bought"), ("wins", "won"), ("receives", "received"),
        ("collects", "collected"), ("is given", "was given"), ("makes", "made"), ("earns", "earned"),
        ("picks", "picked"), ("adds", "added"))  # fmt: skip
LOSS = (("loses", "lost"), ("sells", "sold"), ("uses", "used"), ("drops", "dropped"), ("breaks", "broke"),
        ("gives away", "gave away"), ("eats", "ate"), ("spends", "spent"), ("pays", "paid"),
        ("throws away", "threw away"), ("leaves behind", "left behind"))  # fmt: skip
_FIRST = (("has", "had"), ("has", "had"), ("starts with", "started with"), ("owns", "owned"),
          ("begins with", "began with"), ("buys", "bought"), ("finds", "found"))  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_ENDS = ("How many {thing} does {who} have?", "How many {thing} does {who} have now?",
         "How many {thing} does {who} have in the end?", "How many {thing} are there now?",
         "How many are left?",
         "How many {thing} does {who} have left?", "How many {thing} are left?", "How many is that?",
         "What does {who} have now?", "How many {thing} has {who}?", "How much does {who} have?",
         "What is the number of {thing} now?")  # fmt: skip
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
    ("A farm has {} cows.", ("{} are born.", "It buys {} more."), ("{} are sold.", "It sells {}."),
     "How many cows does it have?"),
    ("{} cars are parked.", ("{} come.", "{} more park."), ("{} drive off.", "{} leave."),
    "How many cars are there?"),
    ("A tank holds {} liters.", ("{} liters are added.", "{} more flow in."), ("{} liters are used.",
     "{} flow out."), "How many liters are in the tank?"),
    ("A class has {} children.", ("{} join.", "{} more come."), ("{} leave.", "{} go home."),
     "How many children are there now?"),
    ("I have {} euros.", ("I get {}.", "I earn {} more."), ("I pay {}.", "I lose {}."),
    "How much do I have?"),
)  # fmt: skip
_SELF = (
    "I have {0} {thing} and {verb} {1}. How many do I have?",
    "I have {0} {thing}. I {verb} {1}. How many now?",
    "If I have {0} {thing} and {verb} {1}, how many do I have?",
    "We have {0} {thing} and {verb} {1}. What is left?",
    "If you have {0} {thing} and {verb} {1}, how many {thing} do you have?",
    "I have {0} and {verb} {1}. How much?",
    "You have {0} {thing}, then you {verb} {1}. How many are there?",
    "I had {0}, then I {verb} {1}. And now?",
    "Say I have {0} {thing} and I {verb} {1}. How many {thing} is that?",
)  # fmt: skip
_SELF_VERBS = {1: ("get", "find", "buy", "win", "receive", "earn", "add"),
               -1: ("lose", "sell", "use", "pay", "eat", "give away", "drop", "spend", "break")}  # fmt: skip
_OTHER = (
    "{name} has {0} {thing} and shares them among {1} friends. How many does each get?",
    "{name} splits {0} {thing} into {1} bags. How many are in each?", "{name} has {0} {thing}. Who has more?",
    "{name} has {0} {thing} and {1} bags. What is the price?",
    "{0} {thing} cost {1} dollars. How much is one?",
    "{name} has {0} {thing}. {name} loses half of them. How many are left?",
    "{name} is {0} years old. How old was {name}?",
    "{name} has {0} {thing} and {second} has {1}. Who has more?", "How many {thing} does {name} have?",
)  # fmt: skip


def story(rng: random.Random, start: int, steps: list[int], days: bool) -> str:
    """`start` changed by each of `steps`, of 1 to 999; with `days`, each on a day of its own."""
    thing = _thing(rng)
    (name, pronoun), (other, _) = _people(rng)
    past = rng.random() < 0.3
    if len(steps) == 1 and rng.random() < 0.12:
        verb = rng.choice(_SELF_VERBS[1 if steps[0] > 0 else -1])
        return rng.choice(_SELF).format(start, abs(steps[0]), thing=thing, verb=verb)
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
    joined = not days and rng.random() < 0.2
    mark = " and" if joined else "."
    parts = [f"{name} {rng.choice(_FIRST)[past]} {start} {thing}{mark}"]
    if days and rng.random() < 0.3:
        parts = [f"On Sunday {name} {rng.choice(_FIRST)[past]} {start} {thing}."]
    for number, step in enumerate(steps):
        verb = rng.choice(LOSS if step < 0 else GAIN)[past]
        who = f"On {DAYS[number]} {pronoun}" if days else pronoun.capitalize()
        if number and not days and rng.random() < 0.5:
            who = rng.choice((f"Then {pronoun}", f"Later {pronoun}", f"After that {pronoun}", "And", name))
        what = rng.choice(("", "", f" {thing}", " more" if step > 0 else " of them"))
        parts.append(f"{'' if joined and not number else who + ' '}{verb} {abs(step)}{what}.")
    parts.append(rng.choice(_ENDS).format(thing=thing, who=rng.choice((name, pronoun))))
    return " ".join(parts)


def product_story(rng: random.Random, one: int, other: int) -> str:
    """`one` groups of `other` things."""
    thing, name = _thing(rng), _people(rng)[0][0]
    return rng.choice((
        f"There are {one} boxes with {other} {thing} each. How many {thing} are there?",
        f"There are {one} bags of {other} {thing}. How many {thing} are there in all?",
        f"{name} buys {one} packs of {other} {thing}. How many {thing} is that?",
        f"One box holds {other} {thing}. How many {thing} do {one} boxes hold?",
        f"{name} has {one} rows of {other} {thing}. How many {thing} does {name} have?",
        f"{name} has {one} bags of {other} {thing}. How many is that?",
        f"{one} bags hold {other} {thing} each. How many {thing} are there together?",
        f"{one} children get {other} {thing} each. How many {thing} are needed?",
        f"Each of {one} boxes has {other} {thing}. How many {thing} are there?",
        f"{name} makes {other} {thing} a day for {one} days. How many {thing} are made?",
        f"A ticket costs {other} dollars. How much do {one} tickets cost?",
    ))  # fmt: skip


def other_story(rng: random.Random, one: int, other: int) -> str:
    """A story that asks what the model does not do."""
    (name, _), (second, _) = _people(rng)
    return rng.choice(_OTHER).format(one, other, name=name, second=second, thing=_thing(rng))


def _thing(rng: random.Random) -> str:
    """One of THINGS, or a word of chance: what is counted does not matter."""
    return word(rng) + "s" if rng.random() < 0.08 else rng.choice(THINGS)


def _people(rng: random.Random) -> list[tuple[str, str]]:
    """Two of PEOPLE; some by a name of chance."""
    people = rng.sample(PEOPLE, 2)
    if rng.random() < 0.15:
        people[0] = (word(rng).capitalize(), people[0][1])
    return people


def word(rng: random.Random) -> str:
    """Of letters by chance, or nearly one of a language."""
    size = rng.randint(2, 9)
    if rng.random() < 0.3:
        return "".join(rng.choice(string.ascii_lowercase) for _ in range(size))
    return "".join(rng.choice("aeiou" if place % 2 else string.ascii_lowercase) for place in range(size))
