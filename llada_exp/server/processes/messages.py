"""What passes between the API process and a worker: plain dicts, cheap to pickle.

API -> worker: a `DecodeJob`, one per choice. Worker -> API, per job: one `Admitted`, then `Piece`s (of
streamed jobs only) and one `Done`, or one `Failed` at any point. Every message carries the worker's
pid, so that a job which was handed out twice is answered once.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from llada_exp.text import ChatEnd
from llada_exp.token_text import AnswerToken
from llada_exp.types import DecodingParams


class DecodeJob(TypedDict):
    """prompt: chat messages, raw text, or token ids, as `kind` says.

    skip_special_tokens: false: those in the answer are text, too; true where absent.
    add_special_tokens: false: raw text gets no BOS; true where absent.
    chat_end: of a chat's prompt; "header" where absent.
    """

    kind: Literal["chat", "text", "ids"]
    prompt: Any
    params: DecodingParams
    stream: bool
    skip_special_tokens: NotRequired[bool]
    add_special_tokens: NotRequired[bool]
    chat_end: NotRequired[ChatEnd]


class _OfJob(TypedDict):
    uid: str
    pid: int


class Admitted(_OfJob):
    kind: Literal["admitted"]
    worker: int
    prompt_tokens: int


class TextSent(TypedDict):
    """tokens: those that begin in the text, where their log-probabilities are asked for."""

    text: str
    tokens: NotRequired[list[AnswerToken]]


class Piece(_OfJob, TextSent):
    """num_tokens: answer tokens released so far, these included."""

    kind: Literal["piece"]
    num_tokens: int


class Done(_OfJob, TextSent):
    """text and tokens: all of them for an unstreamed job, the rest for a streamed one."""

    kind: Literal["done"]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    nfe: int
    num_positions: int
    queue_ms: float
    ttft_ms: float | None
    e2el_ms: float
    trace: NotRequired[list[dict[str, Any]]]


class Failed(_OfJob):
    kind: Literal["failed"]
    status: int
    message: str
    code: NotRequired[str | None]
    param: NotRequired[str | None]


WorkerMessage = Admitted | Piece | Done | Failed

QueuedJob = tuple[str, float, DecodeJob]
"""What lies in the queue: uid, submission by the monotonic clock, job."""
STOP = "stop"
"""Lies in the queue for a worker that is to end."""
