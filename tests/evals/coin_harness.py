"""A harness of a test: a benchmark of coins, answered by nobody's model."""

from functools import partial

from llada_exp.evals.answers import Answer
from llada_exp.evals.harness import Harness, Prepared
from llada_exp.evals.result import HarnessResult
from llada_exp.runs.keys import Key, integer, one_of


def prepare(settings):
    if settings.max_samples == 13:
        raise ValueError("max_samples is 13; coins are superstitious")
    return Prepared(lambda folder: [f"{settings.harness_keys['num_coins']} coins"], partial(run, settings))


def run(settings, folder):
    shown = settings.harness_keys["shown"]
    answers = [
        Answer(
            "coins",
            str(i),
            0,
            "heads or tails?",
            "heads",
            shown,
            shown,
            "correct" if shown == "heads" else "wrong",
        )
        for i in range(settings.harness_keys["num_coins"])
    ]
    return HarnessResult(answers, "coin", None, False)


HARNESS = Harness(
    name="coin",
    benchmarks="coins",
    keys=(
        Key("num_coins", 2, integer(1, 6), "coins that are thrown"),
        Key("shown", "heads", one_of("heads", "tails"), "what every coin shows"),
    ),
    recognises=lambda name: name == "coins",
    prepare=prepare,
)
