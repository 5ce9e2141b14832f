"""The gate is tested by faults injected on purpose: each must fail it, by its own verdict.

As it would happen, the faulty engine decodes everything, vanilla too. So what is wrong in vanilla itself
(attended padding, shifted positions) shows in no comparison with it, and exactness has to tell.
"""

import pytest

from llada_exp.gate import verdict
from llada_exp.gate.measure import VANILLA, measure, measure_exactness, measure_quality, plan
from llada_exp.gate.outcome import against
from llada_exp.gate.verdict import FAIL, PASS, Limits, quality_verdict
from llada_exp.tiny.tasks import held_out
from tests.gate.faults import FAULTS

CANVAS = 64


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("attended_padding", VANILLA),
        ("shifted_positions", VANILLA),
        ("stale_cache", "stale_cache"),  # shows from the second block on, which the first answer reaches
    ],
)
def test_a_faulty_engine_is_not_exact(name, where):
    make, own = FAULTS[name]
    exact = measure_exactness(make(), ["short"], {name: own}, 1, CANVAS)
    words = {v.setting: v.word for v in verdict.verdicts([], exact, Limits())}
    assert words[where] == FAIL
    assert words[VANILLA] == (FAIL if where == VANILLA else PASS), "the fault is where it was put"


def test_commit_everything_is_exactly_what_was_asked_for_and_fails_by_its_quality():
    """A setting, not a slip: the engine does as it is told, and loses what hangs on a decision."""
    make, own = FAULTS["commit_everything"]
    engine = make()
    exact = measure_exactness(engine, ["differences"], {"commit_everything": own}, 1, CANVAS)
    outcomes = measure_quality(engine, {"differences": 48}, [CANVAS], {"commit_everything": own})
    found = verdict.verdicts(outcomes, exact, Limits())
    assert [v.word for v in found] == [PASS, PASS, FAIL]
    assert "points" in found[-1].why
    assert verdict.failing(found, undecided=PASS), "it is no matter of too few problems"


def test_seen_from_a_sound_vanilla_shifted_positions_change_every_text():
    """What agreement is for: no answer is lost, so accuracy alone would let it pass."""
    make, _ = FAULTS["shifted_positions"]
    problems = held_out("short", 12)
    params = plan({}, CANVAS)[VANILLA]
    sound, faulty = (
        measure(engine, "short", problems, name, params)
        for engine, name in ((FAULTS["commit_everything"][0](), VANILLA), (make(), "shifted_positions"))
    )
    found = quality_verdict(against(sound, faulty), Limits())
    assert found.word == FAIL
    assert "vanilla's text in 0.0 %" in found.why
