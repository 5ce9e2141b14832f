"""Log-probabilities in OpenAI's two shapes, of a chat and of a completion: pure functions of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llada_exp.token_text import AnswerToken, TokenScore


def chat_logprobs(tokens: Sequence[AnswerToken]) -> dict[str, Any]:
    """`choices[].logprobs` of a chat, or of one of its chunks."""
    content = [
        _entry(token) | {"top_logprobs": [_entry(other) for other in token["top"]]} for token in tokens
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Sequence[AnswerToken]) -> dict[str, Any]:
    """`choices[].logprobs` of a completion, or of one of its chunks; the token itself is always among the
    alternatives. Of several ids with one text the likeliest stands there."""
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [_alternatives(token) for token in tokens],
        "text_offset": [token["offset"] for token in tokens],
    }


def _alternatives(token: AnswerToken) -> dict[str, float]:
    table: dict[str, float] = {}
    for entry in (*token["top"], token):
        table.setdefault(entry["token"], entry["logprob"])
    return table


def _entry(score: TokenScore) -> dict[str, Any]:
    return {"token": score["token"], "logprob": score["logprob"], "bytes": score["bytes"]}
