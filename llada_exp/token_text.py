"""Tokens of an answer beside its text: what each of them adds, where it begins, how likely it was.

The bytes of an answer's tokens, joined, are its text: a token may hold a part of a character only. Knows a
tokenizer, and nothing of HTTP.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable
from typing import TypedDict

from llada_exp.text import Tokenizer
from llada_exp.types import TokenLogprob

LEAST = -9999.0
"""Stands for minus infinity, and for whatever is below, which JSON cannot say; as in vLLM."""


class TokenScore(TypedDict):
    """token: its text, `bytes:\\x..` where that is no whole character, or a special token's name; bytes: of
    its text, None where it adds none; logprob: at most 0."""

    token: str
    bytes: list[int] | None
    logprob: float


class AnswerToken(TokenScore):
    """top: the likeliest tokens when it was committed; offset: the character of the text where it begins."""

    top: list[TokenScore]
    offset: int


class ScoredTokens:
    """Tokens of one answer that grows, given out as their text is.

    keep_special: special tokens are a part of the text.
    """

    def __init__(self, tokenizer: Tokenizer, keep_special: bool = False) -> None:
        self._tokenizer = tokenizer
        self._keep_special = keep_special
        self._place = _Place()
        self._waiting: deque[AnswerToken] = deque()

    def push(self, logprobs: Iterable[TokenLogprob]) -> None:
        """The answer's next tokens."""
        for entry in logprobs:
            token = self._score(entry.token_id, entry.logprob)
            top = [self._score(*pair) for pair in entry.top]
            offset = self._place.advance(bytes(token["bytes"] or ()))
            self._waiting.append({**token, "top": top, "offset": offset})

    def release(self, num_chars: int | None) -> list[AnswerToken]:
        """Those that were not given out and begin in the first so many characters of the text; None: all."""
        tokens = []
        while self._waiting and (num_chars is None or self._waiting[0]["offset"] < num_chars):
            tokens.append(self._waiting.popleft())
        return tokens

    def _score(self, token_id: int, logprob: float) -> TokenScore:
        data = self._tokenizer.token_bytes(token_id, self._keep_special)
        token = self._tokenizer.token_name(token_id) if data is None else _shown(data)
        number = logprob + 0.0 if logprob > LEAST else LEAST  # 0.0 for -0.0
        return {"token": token, "bytes": None if data is None else list(data), "logprob": number}


class _Place:
    """Counts the characters of UTF-8 that comes in pieces; what is none becomes U+FFFD, as in the text."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_chars = 0

    def advance(self, data: bytes) -> int:
        """Where `data` begins: at the character that it goes on with, or at the next one."""
        unfinished = bool(self._decoder.getstate()[0])
        if unfinished and data and data[0] & 0xC0 != 0x80:  # the character never came
            self._num_chars += len(self._decoder.decode(b"", final=True))
        start = self._num_chars
        self._num_chars += len(self._decoder.decode(data))
        return start


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """What a token adds to a text, `bytes:\\x..` where that is no whole character; "" for one that adds
    nothing, as an end of text."""
    return _shown(tokenizer.token_bytes(token_id) or b"")


def _shown(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)
