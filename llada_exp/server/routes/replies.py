"""Responses in OpenAI's shape, whole or as server-sent events, chat or completion.

Pure functions of what a choice became. An extra object `llada` carries the seed, the effective
decoding parameters, what was asked and not used, and what the answer cost; clients that do not know it
pass it over.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llada_exp.server.processes.messages import Done
from llada_exp.server.routes.logprobs import chat_logprobs, completion_logprobs
from llada_exp.token_text import AnswerToken


@dataclass
class Choice:
    """One answer as it grows. num_tokens: released so far; done: set at its end; max_tokens: what its row had
    left, where the client named no length; tokens: that were not yet sent, where log-probabilities are asked
    for."""

    index: int
    seed: int
    prompt_key: int
    text: str = ""
    num_tokens: int = 0
    prompt_tokens: int = 0
    max_tokens: int | None = None
    begun: bool = False
    done: Done | None = None
    tokens: list[AnswerToken] = field(default_factory=list)


@dataclass
class Reply:
    """What all parts of one response share. warnings: what was asked and not used, in words; logprobs:
    whether those of the tokens are asked for."""

    chat: bool
    model: str
    decoding: dict[str, Any]
    warnings: Sequence[str] = ()
    include_usage: bool = False
    continuous_usage: bool = False
    logprobs: bool = False
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = ("chatcmpl-" if self.chat else "cmpl-") + uuid.uuid4().hex

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        return self._head(streamed=False) | {
            "choices": [self._finished(choice) for choice in choices],
            "usage": usage(choices),
            "llada": self._cost(choices),
        }

    def piece(self, choice: Choice, text: str) -> str:
        """A chunk with text. The role goes out with the first one."""
        delta: dict[str, Any] = {"content": text}
        if self.chat and not choice.begun:
            delta = {"role": "assistant", "content": text}
        choice.begun = True
        return self._chunk(self._part(choice, delta, text, None), choice)

    def end(self, choice: Choice) -> str:
        """A choice's last chunk: its one finish_reason, and what it cost."""
        assert choice.done is not None
        delta: dict[str, Any] = {} if choice.begun else {"role": "assistant", "content": ""}
        part = self._part(choice, delta, "", choice.done["finish_reason"])
        return self._chunk(part, choice, llada=self._cost([choice]))

    def usage_chunk(self, choices: Sequence[Choice]) -> str:
        return sse(self._head(streamed=True) | {"choices": [], "usage": usage(choices)})

    def _head(self, streamed: bool) -> dict[str, Any]:
        kind = "text_completion"
        if self.chat:
            kind = "chat.completion.chunk" if streamed else "chat.completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _finished(self, choice: Choice) -> dict[str, Any]:
        assert choice.done is not None
        body: dict[str, Any] = {"text": choice.text}
        if self.chat:
            body = {"message": {"role": "assistant", "content": choice.text}}
        end = {"logprobs": self._logprobs(choice), "finish_reason": choice.done["finish_reason"]}
        return {"index": choice.index} | body | end

    def _part(self, choice: Choice, delta: dict[str, Any], text: str, reason: str | None) -> dict[str, Any]:
        body: dict[str, Any] = {"delta": delta} if self.chat else {"text": text}
        logprobs = self._logprobs(choice) if choice.tokens else None
        return {"index": choice.index} | body | {"logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, choice: Choice) -> dict[str, Any] | None:
        """Of the tokens that were not yet sent."""
        tokens, choice.tokens = choice.tokens, []
        if not self.logprobs:
            return None
        return chat_logprobs(tokens) if self.chat else completion_logprobs(tokens)

    def _chunk(self, part: dict[str, Any], choice: Choice, **extra: Any) -> str:
        chunk = self._head(streamed=True) | {"choices": [part]} | extra
        if self.continuous_usage:
            chunk["usage"] = usage([choice])
        elif self.include_usage:
            chunk["usage"] = None
        return sse(chunk)

    def _cost(self, choices: Sequence[Choice]) -> dict[str, Any]:
        parts = [
            {
                "index": c.index,
                "seed": c.seed,
                "nfe": c.done["nfe"],
                "store_passes": c.done.get("store_passes", 0),
                **({} if c.max_tokens is None else {"max_tokens": c.max_tokens}),
                "tpf": round(c.done["completion_tokens"] / max(c.done["nfe"], 1), 4),
                "num_positions": c.done["num_positions"],
                "queue_ms": c.done["queue_ms"],
                "ttft_ms": c.done["ttft_ms"],
                "e2el_ms": c.done["e2el_ms"],
                **({"trace": c.done["trace"]} if c.done.get("trace") else {}),
            }
            for c in choices
            if c.done is not None
        ]
        nfe = sum(c.done["nfe"] for c in choices if c.done is not None)
        tokens = sum(c.num_tokens for c in choices)
        longest = max((c.max_tokens for c in choices if c.max_tokens is not None), default=None)
        return {
            "seed": self.decoding["seed"],
            "decoding": self.decoding if longest is None else self.decoding | {"max_tokens": longest},
            "warnings": list(self.warnings),
            "nfe": nfe,
            "tpf": round(tokens / max(nfe, 1), 4),
            "choices": parts,
        }


def usage(choices: Sequence[Choice]) -> dict[str, int]:
    """Real tokens: each prompt once, however many choices it has; answers up to EOS or stop."""
    prompts = {choice.prompt_key: choice.prompt_tokens for choice in choices}
    prompt, completion = sum(prompts.values()), sum(choice.num_tokens for choice in choices)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def sse(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


DONE = "data: [DONE]\n\n"
