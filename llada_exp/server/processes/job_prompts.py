"""A job's prompt as token ids, looked through: whether it is decoded at all, and with how long an answer.

Knows the tokenizer, and of the engine only what it refuses; changes neither, so that any thread of a worker
may read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from llada_exp.fields import ContextLengthError, DecodingError, TokenError
from llada_exp.server.processes.messages import DecodeJob, Refusal
from llada_exp.types import DecodingParams

CONTEXT_ERROR = "This model's maximum context length"


class PromptError(ValueError):
    """A prompt, or a decoding, that this model rules out; refusal: as the client is to read it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal["message"])
        self.refusal = refusal


Take = Callable[[list[int], DecodingParams], object]
"""What becomes of good ids and parameters; raises ValueError, as the engine does, for others."""


class JobPrompts:
    """max_tokens: of a prompt, as the server is configured; None: what the engine's rows hold."""

    def __init__(self, tokenizer: Any, max_tokens: int | None) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    def read(self, job: DecodeJob, take: Take) -> tuple[list[int], DecodingParams]:
        """The ids, and the parameters by which they are decoded, once they are taken: the answer of a job
        that `fits` is no longer than what its row has left. Raises PromptError for faults of the client."""
        name = "messages" if job["kind"] == "chat" else "prompt"
        place = job.get("place", name)
        try:
            ids = self._encode(job)
            self._check_length(ids, name)
            return ids, _params_of(ids, job, take)
        except DecodingError as error:  # what this model rules out
            raise PromptError(_refusal(str(error), error.field, error.code)) from None
        except ContextLengthError as error:
            message = error.words(name, job.get("names"), job.get("fits", False))
            raise PromptError(_refusal(_at(place, name, message), place, "context_length_exceeded")) from None
        except TokenError as error:
            if job["kind"] == "ids":
                place = f"{place}[{error.position}]"
                raise PromptError(_refusal(f"{place} {error.at_fault}", place, "invalid_value")) from None
            raise PromptError(_refusal(_at(place, name, str(error)), place, "invalid_value")) from None
        except ValueError as error:
            code = "context_length_exceeded" if str(error).startswith(CONTEXT_ERROR) else "invalid_value"
            raise PromptError(_refusal(_at(place, name, str(error)), place, code)) from None

    def _encode(self, job: DecodeJob) -> list[int]:
        if job["kind"] == "chat":
            return self.tokenizer.encode_chat(job["prompt"], job.get("chat_end", "header"))
        if job["kind"] == "text":
            if not job.get("add_special_tokens", True):
                return self.tokenizer.encode_text(job["prompt"])
            return self.tokenizer.encode_prompt(job["prompt"])
        return list(job["prompt"])

    def _check_length(self, ids: Sequence[int], name: str) -> None:
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            raise ValueError(
                f"{CONTEXT_ERROR} is {self.max_tokens} tokens for a prompt, as set. However, your request "
                f"has {len(ids)} input tokens. Please reduce the length of the {name}."
            )


def _params_of(ids: list[int], job: DecodeJob, take: Take) -> DecodingParams:
    params = job["params"]
    try:
        take(ids, params)
    except ContextLengthError as error:
        if not job.get("fits") or error.room < 1:
            raise
        params = replace(params, max_tokens=error.room)
        take(ids, params)
    return params


def _at(place: str, name: str, message: str) -> str:
    """A message that says which of several prompts it is about."""
    return message if place == name else f"{place}: {message}"


def _refusal(message: str, param: str | None, code: str | None) -> Refusal:
    return {"status": 400, "message": message, "param": param, "code": code}
