"""Ids of an answer to its text as they come: whole characters, cut at the first stop string.

Pieces, joined, are the decoded answer cut at its first stop string, however the ids arrived. Special
tokens are no text unless `keep_special` says so. Knows a tokenizer that decodes, and nothing else; the
engine is handed a `StopStrings`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from llada_exp.text import Tokenizer

_UNFINISHED = "\ufffd"  # what a decoder shows for bytes that are not (yet) a character
_MAX_WINDOW = 64


class _Pieces:
    """Ids to text, incrementally: each push gives the text that no later id can change.

    Keeps the ids since the last character boundary, so that the work does not grow with the answer.
    """

    def __init__(self, tokenizer: Tokenizer, keep_special: bool = False) -> None:
        self._decode = partial(tokenizer.decode, keep_special=True) if keep_special else tokenizer.decode
        self._window: list[int] = []
        self._num_out = 0  # characters of the window's text that are out already

    def push(self, ids: Iterable[int]) -> str:
        self._window.extend(ids)
        text = self._decode(self._window)
        unfinished = text.endswith(_UNFINISHED)
        piece = text[self._num_out : len(text) - unfinished]
        self._num_out += len(piece)
        if not unfinished:
            self._window, self._num_out = [], 0
        elif len(self._window) > _MAX_WINDOW:
            self._shorten()
        return piece

    def finish(self) -> str:
        """What was held back: bytes that never became a character."""
        piece = self._decode(self._window)[self._num_out :]
        self._window, self._num_out = [], 0
        return piece

    def _shorten(self) -> None:
        """Drop the front of a long run of broken bytes, where it is decided whatever follows: both
        sides decode apart as they do together, and the kept side is longer than any character."""
        front, back = self._window[: -_MAX_WINDOW // 2], self._window[-_MAX_WINDOW // 2 :]
        head, tail = self._decode(front), self._decode(back)
        if len(tail) > 4 and len(head) <= self._num_out and head + tail == self._decode(self._window):
            self._window, self._num_out = back, self._num_out - len(head)


def _check(stops: Sequence[str]) -> None:
    if isinstance(stops, str) or not all(isinstance(s, str) and s for s in stops):
        raise ValueError(f"stop is {stops!r}; expected non-empty strings")


class _StopScan:
    """Finds the stop string that is complete first (the longest, where several end together)."""

    def __init__(self, stops: Sequence[str]) -> None:
        _check(stops)
        self._stops = tuple(stops)
        self._reach = max(map(len, self._stops), default=1) - 1

    def find(self, text: str) -> tuple[int, int] | None:
        """(start, end) in `text`, or None."""
        places = ((start + len(s), start) for s in self._stops if (start := text.find(s)) >= 0)
        end, start = min(places, default=(0, 0))
        return (start, end) if end else None

    def num_open(self, text: str) -> int:
        """Characters at the end of `text` that may be the start of a stop string."""
        for length in range(min(self._reach, len(text)), 0, -1):
            tail = text[-length:]
            if any(len(s) > length and s.startswith(tail) for s in self._stops):
                return length
        return 0


class StopStrings:
    """Called with an answer's ids: how many of them run up to and including the token that completes
    the earliest stop string in the decoded text, or None. A stop string that spells a special token is
    looked for where special tokens are text: whoever names one means it.

    Made for one answer that grows: each call looks only at the ids that are new since the last.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], keep_special: bool = False) -> None:
        _check(stops)
        special = [stop for stop in stops if tokenizer.spells_special(stop)]
        others = [stop for stop in stops if stop not in special]
        texts = ((others, keep_special), (special, True))
        self._watches = [_StopWatch(tokenizer, some, keep) for some, keep in texts if some]
        self._num_read = 0
        self._end: int | None = None

    def __call__(self, answer_ids: Sequence[int]) -> int | None:
        assert len(answer_ids) >= self._num_read, "one StopStrings follows one growing answer"
        while self._end is None and self._num_read < len(answer_ids):
            token = answer_ids[self._num_read]
            self._num_read += 1
            for watch in self._watches:
                if watch.completes(token):
                    self._end = self._num_read
        return self._end


class _StopWatch:
    """One text of an answer's ids, and the stop strings to be found there."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str], keep_special: bool) -> None:
        self._scan = _StopScan(stops)
        self._pieces = _Pieces(tokenizer, keep_special)
        self._open = ""

    def completes(self, token: int) -> bool:
        """Whether a stop string ends with the text of the next token."""
        self._open += self._pieces.push([token])
        is_complete = self._scan.find(self._open) is not None
        self._open = self._open[len(self._open) - self._scan.num_open(self._open) :]
        return is_complete


class TextStream:
    """Incremental text of one answer, cut at the first stop string.

    `push` gives what is safe to send: no half character, and nothing that may turn out to be the
    start of a stop string. All pieces, `finish()` included, join to the answer's text.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), keep_special: bool = False) -> None:
        self._scan = _StopScan(stops)
        self._pieces = _Pieces(tokenizer, keep_special)
        self._open = ""
        self.stopped = False

    def push(self, ids: Iterable[int]) -> str:
        """Text that became safe with these ids; "" after a stop string."""
        return "" if self.stopped else self._release(self._pieces.push(ids), keep=True)

    def finish(self) -> str:
        """The rest, once no more ids come."""
        return "" if self.stopped else self._release(self._pieces.finish(), keep=False)

    def _release(self, piece: str, keep: bool) -> str:
        text = self._open + piece
        if stop := self._scan.find(text):
            self.stopped = True
            self._open = ""
            return text[: stop[0]]
        num_open = self._scan.num_open(text) if keep else 0
        self._open = text[len(text) - num_open :]
        return text[: len(text) - num_open]
