"""What passes between the API process and a worker: plain dicts, cheap to pickle.

API -> worker: a `DecodeJob`, one per choice. Worker -> API, per job: one `Admitted`, then `Piece`s (of
streamed jobs only) and one `Done`, or one `Failed` at any point. The prompts of a list go there before,
together: per list one `Reading`, then one `Read` or `Failed`. Every message carries the worker's pid.

Token ids travel as an array of 32-bit integers: as objects they would take ten times as much memory and time
on their way.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NotRequired, TypedDict

from llada_exp.text import ChatEnd
from llada_exp.token_text import AnswerToken
from llada_exp.types import DecodingParams


def packed_ids(ids: Iterable[int]) -> array[int]:
    return array("i", ids)


class DecodeJob(TypedDict):
    """prompt: chat messages, raw text, or token ids (packed), as `kind` says.

    skip_special_tokens: false: those in the answer are text, too; true where absent.
    add_special_tokens: false: raw text gets no BOS; true where absent.
    fits: the client named no length: the answer is no longer than what the row has left.
    place: of one prompt of several, for errors; names: of fields as the client wrote them.
    chat_end: of a chat's prompt; "header" where absent.
    """

    kind: Literal["chat", "text", "ids"]
    prompt: Any
    params: DecodingParams
    stream: bool
    skip_special_tokens: NotRequired[bool]
    add_special_tokens: NotRequired[bool]
    chat_end: NotRequired[ChatEnd]
    fits: NotRequired[bool]
    place: NotRequired[str]
    names: NotRequired[dict[str, str]]


class Refusal(TypedDict):
    """Why a job is not done, for the client: an HTTP status, words, the field at fault and a code."""

    status: int
    message: str
    param: str | None
    code: str | None


class _OfJob(TypedDict):
    uid: str
    pid: int


class Admitted(_OfJob):
    """max_tokens: of its answer, where the client named none."""

    kind: Literal["admitted"]
    worker: int
    prompt_tokens: int
    max_tokens: NotRequired[int]


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
    store_passes: NotRequired[int]
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


class Reading(_OfJob):
    """A worker has begun to read the prompts of a list."""

    kind: Literal["reading"]


class Read(_OfJob):
    """prompts: their token ids; all may be decoded."""

    kind: Literal["read"]
    prompts: Sequence[array[int]]


WorkerMessage = Admitted | Piece | Done | Failed | Reading | Read

QueuedJob = tuple[str, float, DecodeJob]
"""What lies in the queue: uid, submission by the monotonic clock, job."""
STOP = "stop"
"""Lies in the queue for a worker that is to end."""
