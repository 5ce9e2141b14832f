"""One job in the engine, seen from its text: ids in, pieces of text out, with what is known of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from llada_exp.server.processes.messages import DecodeJob, TextSent
from llada_exp.text_stream import StopStrings, TextStream
from llada_exp.token_text import AnswerToken, ScoredTokens
from llada_exp.types import Progress


def is_fault(error: BaseException) -> bool:
    """Whether it is a mistake, rather than the process's end: a panic of tokenizers is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


class StopFinder:
    """Stop strings as the engine is handed them. What they raise ends their own request, not the step: it is
    noted in `fault`, and nothing is looked for any more."""

    def __init__(self, find: Callable[[Sequence[int]], int | None]) -> None:
        self._find = find
        self.fault: BaseException | None = None

    def __call__(self, answer_ids: Sequence[int]) -> int | None:
        if self.fault is None:
            try:
                return self._find(answer_ids)
            except BaseException as error:
                if not is_fault(error):
                    raise
                self.fault = error
        return None


@dataclass
class ServedRequest:
    """end_ids: of tokens that end the answer, and are no part of its text; stop: where the request has stops.

    num_tokens: released so far; pieces and tokens: what was not yet sent.
    """

    stream: bool
    text: TextStream
    end_ids: frozenset[int] = frozenset()
    stop: StopFinder | None = None
    scores: ScoredTokens | None = None
    num_tokens: int = 0
    pieces: list[str] = field(default_factory=list)
    tokens: list[AnswerToken] = field(default_factory=list)
    _num_chars: int = 0

    @classmethod
    def of(cls, job: DecodeJob, tokenizer: Any, end_ids: frozenset[int]) -> ServedRequest:
        params, keep_special = job["params"], not job.get("skip_special_tokens", True)
        stops = params.stop
        return cls(
            stream=job["stream"],
            text=TextStream(tokenizer, stops, keep_special),
            end_ids=frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else end_ids),
            stop=StopFinder(StopStrings(tokenizer, stops, keep_special)) if stops else None,
            scores=None if params.logprobs is None else ScoredTokens(tokenizer, keep_special),
        )

    def advance(self, item: Progress) -> None:
        """Take what a step released. Raises what the text layer raises, now or while it looked for a stop."""
        if self.stop is not None and self.stop.fault is not None:
            raise self.stop.fault
        self.num_tokens += len(item.token_ids)
        piece = self.text.push(i for i in item.token_ids if i not in self.end_ids)
        if item.output is not None:
            piece += self.text.finish()
        self.pieces.append(piece)
        self._num_chars += len(piece)
        if self.scores is not None:
            self.scores.push(entry for entry in item.logprobs if entry.token_id not in self.end_ids)
            is_whole = item.output is not None and not self.text.stopped
            self.tokens += self.scores.release(None if is_whole else self._num_chars)

    def send(self) -> TextSent:
        """Text that was not yet sent, and its tokens where they are asked for."""
        part: TextSent = {"text": "".join(self.pieces)}
        self.pieces.clear()
        if self.scores is not None:
            part["tokens"], self.tokens = self.tokens, []
        return part
