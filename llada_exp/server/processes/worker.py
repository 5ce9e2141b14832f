"""A worker's work without its surroundings: jobs in, engine steps, messages out.

Knows the engine's interface and the text layer; knows nothing of LitServe, queues and HTTP. A bad job
fails alone, and so does one whose pass raises. Where the engine itself raises, the jobs in it fail and the
next finds it empty; where the device is lost, the worker is to end.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from llada_exp.server.processes.job_prompts import JobPrompts, PromptError
from llada_exp.server.processes.messages import Admitted, DecodeJob, WorkerMessage
from llada_exp.server.processes.served_request import ServedRequest, is_fault
from llada_exp.token_text import token_text
from llada_exp.types import BlockCommit, DecodingParams, Progress, RequestOutput

logger = logging.getLogger(__name__)

TRACED = ("step", "positions", "token_ids", "confidences", "remasked")
"""Fields of a commit that clients see, beside the `tokens`' text."""


class EngineLike(Protocol):
    """What the server needs of `llada_exp.engine.EngineCore`."""

    def add_request(
        self,
        prompt_ids: Sequence[int],
        params: DecodingParams,
        *,
        request_id: str | None = None,
        find_stop: Callable[[Sequence[int]], int | None] | None = None,
    ) -> str: ...
    def check(self, prompt_ids: Sequence[int], params: DecodingParams) -> None: ...
    def has_capacity(self, num_rows: int = 1) -> bool: ...
    def has_work(self) -> bool: ...
    def step(self, on_failure: Callable[[str, Exception], None] | None = None) -> list[Progress]: ...
    def abort(self, request_id: str) -> bool: ...
    def abort_all(self) -> list[str]: ...
    def stats(self) -> dict[str, Any]: ...


@dataclass
class Backend:
    """A loaded model, ready to answer. end_ids: what ends an answer, no part of its text; about: plain
    facts, for /info and the ready line."""

    engine: EngineLike
    tokenizer: Any  # `llada_exp.text.Tokenizer`'s encode_chat, encode_prompt, decode, token_bytes
    max_prompt_tokens: int | None = None
    end_ids: tuple[int, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)


_IN_WORDS = ("NotFiniteError", "DoesNotFitError")
"""The engine's own errors, which say all to a client. Known by their names: torch is not known here."""
_LONGEST_REASON = 200


def _failure(error: Exception) -> str:
    """What to tell a client whose request's pass raised."""
    name, words = type(error).__name__, " ".join(str(error).split())
    if name in _IN_WORDS:
        return f"the model failed while decoding this request: {words}"
    reason = f"{name}: {words[:_LONGEST_REASON]}" if words else name
    return f"the model failed while decoding this request ({reason}); the server's log says where"


class Worker:
    """outbox: messages for whoever waits for the jobs, in order; emptied by who sends them."""

    def __init__(self, backend: Backend, worker_id: int) -> None:
        self.engine = backend.engine
        self.tokenizer = backend.tokenizer
        self.prompts = JobPrompts(backend.tokenizer, backend.max_prompt_tokens)
        self.end_ids = frozenset(backend.end_ids)
        self.worker_id = worker_id
        self.pid = os.getpid()
        self.outbox: list[WorkerMessage] = []
        self.num_failed_steps = 0  # in a row, of the engine itself
        self.is_lost = False  # the device: only a new process helps
        self._running: dict[str, ServedRequest] = {}

    @property
    def uids(self) -> set[str]:
        return set(self._running)

    def add(self, uid: str, job: DecodeJob) -> None:
        """Hand a job to the engine, or fail it; either is a message."""
        assert uid not in self._running, uid
        try:
            served = ServedRequest.of(job, self.tokenizer, self.end_ids)
            add = partial(self.engine.add_request, request_id=uid, find_stop=served.stop)
            prompt, params = self.prompts.read(job, add)
        except PromptError as error:
            self._fail(uid, **error.refusal)
        except BaseException as error:
            if not is_fault(error):
                raise
            logger.exception("a job could not be added")
            self._fail(uid, 500, f"internal error while preparing the request ({type(error).__name__})")
        else:
            self._running[uid] = served
            admitted: Admitted = {"kind": "admitted", "uid": uid, "pid": self.pid, "worker": self.worker_id,
                                  "prompt_tokens": len(prompt)}  # fmt: skip
            if job.get("fits"):
                admitted["max_tokens"] = params.max_tokens
            self.outbox.append(admitted)

    def step(self) -> None:
        """One engine step; its progress, and its failures, go out."""
        try:
            progress = self.engine.step(self._pass_failed)
        except Exception as error:
            self.is_lost = type(error).__name__ == "DeviceLostError"
            self.num_failed_steps += 1
            if self.is_lost:
                logger.exception("the device is lost; the worker ends, and is started anew")
                self.fail_all(503, "the device of this request's worker failed; please send it again")
            else:
                logger.exception("a step failed; the requests in it are given up")
                self.fail_all(500, f"the model failed while decoding ({type(error).__name__})")
            return
        self.num_failed_steps = 0
        for item in progress:
            self._progress(item)
        for uid, job in list(self._running.items()):
            if job.stop is not None and job.stop.fault is not None:
                self._give_up(uid, job.stop.fault)

    def _pass_failed(self, uid: str, error: Exception) -> None:
        """The engine has forgotten the job, and goes on with the others."""
        logger.error("a request's pass failed; the others go on", exc_info=error)
        if self._running.pop(uid, None):
            self._fail(uid, 500, _failure(error))

    def abort(self, uids: Iterable[str]) -> None:
        """Forget jobs whose clients are gone."""
        for uid in uids:
            if self._running.pop(uid, None):
                self.engine.abort(uid)

    def fail_all(self, status: int, message: str) -> None:
        """Give up every job in the engine, and say so."""
        if not self.is_lost:  # else the engine's own tidying would fail on its device, too
            self.engine.abort_all()
        for uid in self._running:
            self._fail(uid, status, message)
        self._running.clear()

    def _progress(self, item: Progress) -> None:
        job = self._running.get(item.request_id)
        if job is None:
            return
        try:
            job.advance(item)
        except BaseException as error:
            if not is_fault(error):
                raise
            self._give_up(item.request_id, error)
            return
        if item.output is not None:
            self._finish(item.request_id, job, item.output)
        elif job.stream and any(job.pieces):
            self.outbox.append({"kind": "piece", "uid": item.request_id, "pid": self.pid,
                                "num_tokens": job.num_tokens, **job.send()})  # fmt: skip

    def _give_up(self, uid: str, error: BaseException) -> None:
        """Fail a request whose text cannot be made; nobody else's business."""
        logger.error("the text of an answer could not be made", exc_info=error)
        self.abort([uid])
        self._fail(uid, 500, f"internal error while making text of the answer ({type(error).__name__})")

    def _finish(self, uid: str, job: ServedRequest, output: RequestOutput) -> None:
        del self._running[uid]
        self.outbox.append(
            {
                "kind": "done",
                "uid": uid,
                "pid": self.pid,
                **job.send(),
                # A stop string may be complete only now that what was no character ends the text.
                "finish_reason": "stop" if job.text.stopped else output.finish_reason,
                "prompt_tokens": output.prompt_tokens,
                "completion_tokens": len(output.token_ids),
                "nfe": output.nfe,
                "store_passes": output.store_passes,
                "num_positions": output.num_positions,
                "queue_ms": output.queue_ms,
                "ttft_ms": output.ttft_ms,
                "e2el_ms": output.e2el_ms,
                "trace": [self._traced(commit) for commit in output.trace],
            }
        )

    def _traced(self, commit: BlockCommit) -> dict[str, Any]:
        fields = {name: getattr(commit, name) for name in TRACED}
        return {**fields, "tokens": [token_text(self.tokenizer, i) for i in commit.token_ids]}

    def _fail(
        self, uid: str, status: int, message: str, code: str | None = None, param: str | None = None
    ) -> None:
        self.outbox.append({"kind": "failed", "uid": uid, "pid": self.pid, "status": status,
                            "message": message, "code": code, "param": param})  # fmt: skip
