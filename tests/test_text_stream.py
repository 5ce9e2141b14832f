"""Streamed pieces join to the answer, cut at its first stop string."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llada_exp.text import Tokenizer
from llada_exp.text_stream import StopStrings, TextStream

TOKENIZER = Tokenizer(Path(__file__).parent / "reference" / "llada-random-a")

# Mostly text that makes sense, some that is broken: any id, special and out of range included.
LETTERS = st.text(alphabet="ab", max_size=20) | st.text(alphabet="ab #4é😀\n", max_size=20)
TEXTS = LETTERS.map(lambda t: TOKENIZER.encode_prompt(t)[1:])
RAW = st.lists(st.integers(0, TOKENIZER.num_tokens + 4), max_size=20)
IDS = st.lists(TEXTS | RAW, max_size=6).map(lambda parts: [i for part in parts for i in part])
STOP = st.text(alphabet="ab", min_size=2, max_size=5) | st.text(alphabet="ab #4é😀\n", min_size=1, max_size=4)
STOPS = st.lists(STOP, max_size=3)


def cut(text, stops):
    """The definition: the stop string complete first, the longest where several end together."""
    found = min(((text.find(s) + len(s), text.find(s)) for s in stops if s in text), default=None)
    return text if found is None else text[: found[1]]


@settings(max_examples=150, deadline=None)
@given(IDS, STOPS, st.data())
def test_streamed_pieces_join_to_the_answer(ids, stops, data):
    """Prevents half characters, text sent that a stop string then takes back, and text lost."""
    stream = TextStream(TOKENIZER, stops)
    sent, place = "", 0
    wanted = cut(TOKENIZER.decode(ids), stops)
    while place < len(ids):
        step = data.draw(st.integers(1, 5))
        sent += stream.push(ids[place : place + step])
        place += step
        assert wanted.startswith(sent)
    sent += stream.finish()
    assert sent == wanted
    assert stream.stopped == (wanted != TOKENIZER.decode(ids))


@settings(max_examples=150, deadline=None)
@given(IDS, STOPS, st.data())
def test_stop_strings_end_at_the_token_that_completes_one(ids, stops, data):
    """Prevents a stop across tokens, or inside one, from being missed or seen a token late."""
    texts = [TOKENIZER.decode(ids[:n]) for n in range(len(ids) + 1)]
    wanted = next((n for n, text in enumerate(texts) if any(s in text for s in stops)), None)
    scan = StopStrings(TOKENIZER, stops)
    ends = sorted(data.draw(st.sets(st.integers(0, len(ids)), max_size=4)) | {len(ids)})
    for end in ends:
        assert scan(ids[:end]) == (wanted if wanted is not None and wanted <= end else None)


@pytest.mark.parametrize(
    ("text", "stops", "kept"),
    [
        ("aaab", ["aab"], "a"),  # a partial match restarts inside itself
        ("abcd", ["abcd", "bc"], "a"),  # the first to be complete wins, not the first to start
        ("abcd", ["bcd", "abcd"], ""),  # of two that end together, the longest
        ("x abab", ["ababa"], "x abab"),  # a start of one that never completes is text
        ("é stop", ["é"], ""),
    ],
)
@pytest.mark.parametrize("step", [1, 99])
def test_stop_strings_by_example(text, stops, kept, step):
    """Prevents an answer that depends on how its tokens arrived."""
    ids = [i for char in text for i in TOKENIZER.encode_prompt(char)[1:]]
    stream = TextStream(TOKENIZER, stops)
    pieces = [stream.push(ids[place : place + step]) for place in range(0, len(ids), step)]
    assert "".join(pieces) + stream.finish() == kept
    assert stream.stopped == (kept != text)


def test_a_stop_string_inside_one_token_is_found():
    """Prevents matching ids, or the ends of tokens, instead of text."""
    texts = {i: TOKENIZER.decode([i]) for i in range(TOKENIZER.num_tokens)}
    token, text = next((i, t) for i, t in texts.items() if len(t) > 2 and t.isascii())
    assert StopStrings(TOKENIZER, [text[1]])([token, token]) == 1


def test_long_answers_cost_time_in_proportion():
    """Prevents decoding an answer anew for every token, also where it is one long run of broken bytes."""
    broken = TOKENIZER.encode_prompt("é")[1:2]
    assert TOKENIZER.decode(broken) == "\ufffd"
    for unit in (TOKENIZER.encode_prompt("4")[1:2], broken):
        decoded = []
        scan = StopStrings(TOKENIZER, ["never"])
        scan._watches[0]._pieces._decode = Spy(decoded).decode
        scan(unit * 2000)
        assert sum(decoded) < 2000 * 200
        stream = TextStream(TOKENIZER)
        pieces = [stream.push(unit) for _ in range(2000)]
        assert "".join(pieces) + stream.finish() == TOKENIZER.decode(unit * 2000)


class Spy:
    """Counts the ids that are decoded."""

    def __init__(self, decoded):
        self.decoded = decoded

    def decode(self, ids):
        self.decoded.append(len(ids))
        return TOKENIZER.decode(ids)


def test_stops_must_be_strings():
    for bad in ("END", [""], [3]):
        with pytest.raises(ValueError, match="non-empty"):
            TextStream(TOKENIZER, bad)
