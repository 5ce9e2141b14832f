"""Tokens beside their text: their bytes join to it, and each is given out when its text is."""

import json
import math
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from llada_exp.text import Tokenizer
from llada_exp.text_stream import TextStream
from llada_exp.token_text import ScoredTokens
from llada_exp.types import TokenLogprob
from tests.server.conftest import REFERENCE
from tests.test_text_stream import IDS, STOPS, TOKENIZER, cut


def scored(ids):
    return [TokenLogprob(i, -0.5, ((i, -0.5),)) for i in ids]


def joined(tokens):
    return b"".join(bytes(t["bytes"] or ()) for t in tokens)


@settings(max_examples=200, deadline=None)
@given(IDS, st.booleans())
def test_their_bytes_join_to_the_text_and_their_offsets_are_places_in_it(ids, keep):
    tokens = ScoredTokens(TOKENIZER, keep)
    tokens.push(scored(ids))
    listed = tokens.release(None)
    text = TOKENIZER.decode(ids, keep)
    assert joined(listed).decode("utf-8", "replace") == text
    assert [t["offset"] for t in listed] == sorted(t["offset"] for t in listed)
    for token in listed:
        if token["bytes"] is not None and not token["token"].startswith("bytes:"):
            start = token["offset"]
            assert token["bytes"] == list(token["token"].encode())
            assert text[start : start + len(token["token"])] == token["token"]


@settings(max_examples=200, deadline=None)
@given(IDS, STOPS, st.data())
def test_they_come_with_their_text_and_none_beyond_a_stop(ids, stops, data):
    tokens, stream = ScoredTokens(TOKENIZER), TextStream(TOKENIZER, stops)
    text, listed, place = "", [], 0
    while place < len(ids):
        step = data.draw(st.integers(1, 5))
        part = ids[place : place + step]
        text += stream.push(part)
        tokens.push(scored(part))
        listed += tokens.release(len(text))
        assert all(t["offset"] < len(text) for t in listed)
        place += step
    text += stream.finish()
    listed += tokens.release(len(text) if stream.stopped else None)
    expected = cut(TOKENIZER.decode(ids), stops)
    assert text == expected
    whole = ScoredTokens(TOKENIZER)
    whole.push(scored(ids))
    every = whole.release(None)
    assert listed == ([t for t in every if t["offset"] < len(text)] if stream.stopped else every)
    assert joined(listed).decode("utf-8", "replace").startswith(text)


def test_special_tokens_have_a_name_and_no_bytes_unless_they_are_text():
    end = TOKENIZER.token_id("<|eot_id|>")
    for keep, expected in ((False, None), (True, list(b"<|eot_id|>"))):
        tokens = ScoredTokens(TOKENIZER, keep)
        tokens.push(scored([end, TOKENIZER.num_tokens + 9]))
        special, beyond = tokens.release(None)
        assert (special["token"], special["bytes"]) == ("<|eot_id|>", expected)
        assert (beyond["token"], beyond["bytes"]) == ("", None)


@pytest.mark.parametrize(
    ("logprob", "said"), [(-math.inf, -9999.0), (math.nan, -9999.0), (-0.0, 0.0), (-2.0, -2.0)]
)
def test_what_json_cannot_say_is_clamped(logprob, said):
    tokens = ScoredTokens(TOKENIZER)
    tokens.push([TokenLogprob(5, logprob, ((6, logprob),))])
    (token,) = tokens.release(None)
    assert json.dumps([token["logprob"], token["top"][0]["logprob"]]) == json.dumps([said, said])


def test_other_decoders_have_bytes_too(tmp_path):
    """Metaspace, whose texts lose their first space, and bytes that stand for themselves."""
    vocab = {"<unk>": 0, "\u2581the": 1, "\u2581cat": 2, "s": 3, "<0xC3>": 4, "<0xA9>": 5}
    backend = Backend(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    folder = shutil.copytree(REFERENCE, tmp_path / "other")
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = Tokenizer(folder)
    assert [tokenizer.token_bytes(i) for i in (1, 2, 3, 4, 5)] == [b" the", b" cat", b"s", b"\xc3", b"\xa9"]
