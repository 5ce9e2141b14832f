"""The frames are the engine's trace: nothing is shown that no pass did, what a rule takes back is seen."""

import pytest

from llada_exp import Engine, load_model
from llada_exp.animation import frames, traced
from llada_exp.animation.frames import (
    MASK,
    NEW,
    REVOKED,
    SHADES,
    Cell,
    blocks_at_work,
    caption,
    durations,
    frame_at,
    slots,
)
from llada_exp.animation.traced import TracedAnswer, TracedPass, Written
from llada_exp.token_text import token_text
from llada_exp.types import DecodingParams
from tests.animation.answers import replayed, rows
from tests.engine.test_revising import MODELS, PROMPT, run, test_rules

test_rules = test_rules  # the rules that revise, for this module, too
CHAT = [{"role": "user", "content": "What is 47 + 8?"}]


@pytest.fixture(scope="module")
def engine():
    return Engine(load_model())


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"rule": "threshold", "threshold": 0.9, "cache": "dual"},
        {"ignore_eos": True, "tokens_per_step": 3},
    ],
)
def test_every_frame_is_the_engines_canvas_after_its_pass(engine, setting):
    params = DecodingParams(max_tokens=40, block_length=16, trace=True, **setting)
    (output,) = engine.chat(CHAT, params)
    answer = traced(rows(output, params, lambda i: token_text(engine.tokenizer, i)))
    first, *others = frames(answer)
    assert {cell.kind for cell in first} == {MASK}
    assert len(others) == output.nfe == len(output.trace)
    for frame, canvas, step in zip(others, replayed(output, 40), output.trace, strict=True):
        texts = [None if i is None else token_text(engine.tokenizer, i) for i in canvas]
        assert [None if cell.kind == MASK else cell.token for cell in frame] == texts
        assert [i for i, cell in enumerate(frame) if cell.kind == NEW] == list(step.positions)
        assert {i: frame[i].confidence for i in step.positions} == dict(
            zip(step.positions, step.confidences, strict=True)
        )
    assert "".join(cell.token for cell in others[-1]).startswith(output.text)


@pytest.mark.parametrize("rule", ["revoke", "thrash"])
def test_what_a_rule_takes_back_is_seen_and_marked_ever_after(rule):
    params = DecodingParams(max_tokens=16, block_length=8, rule=rule, ignore_eos=True, trace=True)
    (output,) = run(MODELS[0], [(PROMPT, params)])
    answer = traced(rows(output, params, str))
    shown = frames(answer)
    assert sum(len(step.remasked) for step in output.trace), "else nothing is tried"
    for step, before, after, canvas in zip(
        output.trace, shown, shown[1:], replayed(output, 16), strict=False
    ):
        gone = set(step.remasked) - set(step.positions)
        assert {i for i, cell in enumerate(after) if cell.kind == REVOKED} == gone
        assert all(after[i].token == before[i].token != "" for i in gone), "what was taken back can be read"
        assert all(after[i].revised for i in step.remasked)
        for i, (cell, token) in enumerate(zip(after, canvas, strict=True)):
            assert (cell.kind in (MASK, REVOKED)) == (token is None)
            assert token is None or cell.token == str(token)
            assert not before[i].revised or cell.revised
    assert REVOKED not in {cell.kind for cell in shown[-1]}


def test_a_token_that_is_overwritten_is_marked():
    params = DecodingParams(
        max_tokens=24, block_length=8, rule="edit", editing_threshold=0.0, ignore_eos=True, trace=True
    )
    (output,) = run(MODELS[0], [(PROMPT, params)])
    written = [place for step in output.trace for place in step.positions]
    twice = {place for place in written if written.count(place) > 1}
    assert twice
    last = frames(traced(rows(output, params, str)))[-1]
    assert {i for i, cell in enumerate(last) if cell.revised} == twice


def answer(*passes, length=8, block_length=4, text="", label="a"):
    return TracedAnswer(label, "", "", text, length, block_length, passes)


def test_an_answer_that_is_done_has_nothing_new_while_others_go_on():
    shown = frames(answer(TracedPass((Written(0, "x", 1.0),))))
    assert [frame_at(shown, i)[0].kind for i in (0, 1, 2, 9)] == ["mask", "new", "token", "token"]


def test_a_pass_that_commits_nothing_stays_in_its_block():
    late = answer(TracedPass(), TracedPass((Written(5, "x", 1.0),)), TracedPass(), TracedPass((), (5,)))
    assert blocks_at_work(late) == [0, 0, 1, 1, 1]
    assert late.num_touched == 8


@pytest.mark.parametrize(
    ("confidence", "shade"),
    [(0.49, "less"), (0.5, "0.5"), (0.9999, "0.9999"), (1.0, "0.9999"), (0.0, "less")],
)
def test_a_shade_is_named_by_its_least_confidence(confidence, shade):
    assert SHADES[Cell(NEW, "x", confidence).shade] == shade


def test_what_is_drawn_of_a_token_is_one_short_line():
    texts = ("\n", "", "\x1b[2J", "w" * 40, "bytes:\\xe2")
    assert [Cell(NEW, text).glyphs for text in texts] == ["↵", "∎", "\ufffd[2J", "w" * 13 + "…", "\\xe2"]
    assert Cell(MASK).glyphs == ""


def test_a_slot_is_as_wide_as_all_that_ever_stands_there():
    wide = answer(TracedPass((Written(0, "wide", 0.4), Written(1, "\n", 1.0))), TracedPass((), (0,)),
                  TracedPass((Written(0, "b", 1.0),)))  # fmt: skip
    assert slots(wide, frames(wide))[:3] == [(4, False), (1, True), (1, False)]


def test_a_slot_holds_characters_that_are_two_wide():
    """Prevents answers in Chinese whose tokens lie over each other."""
    chinese = answer(TracedPass((Written(0, "答案", 0.4), Written(1, "e\u0301", 1.0))))
    assert [width for width, _ in slots(chinese, frames(chinese))[:2]] == [4, 1]


@pytest.mark.parametrize("counts", [(96, 5), (5, 96), (3, 3), (1,), (1, 1), (400, 200, 2)])
def test_a_frame_a_pass_stands_for_a_time_that_a_gif_can_say(counts):
    times = durations(counts)
    assert len(times) == max(counts) + 1
    assert all(time >= 20 and time % 10 == 0 for time in times), "browsers slow down what is below 20 ms"
    assert sum(times) < 120_000


def test_the_caption_says_whether_the_answers_agree():
    one = TracedPass((Written(0, "x", 1.0),))
    assert (
        caption([answer(one, one, text="x"), answer(one, text="x")]) == "2 against 1 passes: the same answer"
    )
    assert caption([answer(one, text="y"), answer(one, text="x")]) == "1 against 1 passes: the answers differ"
    assert caption([answer(one)]) == "1 pass"
