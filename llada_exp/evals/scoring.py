"""Whether a response is right: what it gives as its answer, and whether that is the expected one.

    exact         the same text, or numbers of the same value
    math_verify   that, or the same by math-verify (LaTeX, fractions, sets ...)

The answer is the last `\\boxed{...}` or `#### ...`; a response without one has no answer: a parse failure,
not a wrong answer. Knows texts only.
"""

from __future__ import annotations

import json
import math
import re
import select
import subprocess
import sys
import threading

from llada_exp.evals.answers import CORRECT, NO_ANSWER, WRONG

SCORERS = ("math_verify", "exact")
_HASH = re.compile(r"####\s*([^\n]+)")
_BOXED = "\\boxed{"


def extract(text: str) -> str | None:
    """The response's answer; None where it gives none."""
    found = [(m.start(), m[1].strip()) for m in _HASH.finditer(text)]
    found += _boxes(text)
    last = max(found, default=(0, ""))[1]
    return last or None


class Scorer:
    """Gives verdicts. math-verify runs in a process of its own, which is ended where an expression keeps it
    busy too long (`10^{10^{10}}` would, for ever): what cannot be verified in time is wrong.

    name: of SCORERS. To be closed; threads may share it.
    """

    def __init__(self, name: str, timeout_s: float = 10.0) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def verdict(self, predicted: str | None, expected: str) -> str:
        if predicted is None:
            return NO_ANSWER
        if same(predicted, expected):
            return CORRECT
        if self.name == "exact" or (number(predicted) is not None and number(expected) is not None):
            return WRONG
        with self._lock:
            return CORRECT if self._verified(predicted, expected) else WRONG

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _verified(self, predicted: str, expected: str) -> bool:
        if self._child is None:
            self._child = self._start()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            print(json.dumps([predicted, expected]), file=self._child.stdin, flush=True)
            ready, _, _ = select.select([self._child.stdout], [], [], self.timeout_s)
            if ready and (told := self._child.stdout.readline()):
                return bool(json.loads(told))
        except BrokenPipeError:
            pass  # out of memory, say: as a time-out
        self.close()
        return False

    def _start(self) -> subprocess.Popen[str]:
        """Ready when it returns: what follows is timed."""
        child = subprocess.Popen(
            [sys.executable, "-m", "llada_exp.evals.verifier"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        assert child.stdout is not None
        if not child.stdout.readline():
            raise RuntimeError(
                f"math-verify does not start (exit code {child.wait()}); scorer=exact does without"
            )
        return child


def same(given: str, expected: str) -> bool:
    """The same text, or numbers of the same value."""
    left, right = number(given), number(expected)
    if left is not None and right is not None:
        return math.isclose(left, right, rel_tol=1e-9)
    return _plain(given) == _plain(expected)


def number(text: str) -> float | None:
    try:
        value = float(_plain(text))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _plain(text: str) -> str:
    return text.strip().strip("$").replace(",", "").rstrip(".")


def _boxes(text: str) -> list[tuple[int, str]]:
    """Place and content of every closed \\boxed{...}, braces inside it balanced."""
    found, start = [], text.find(_BOXED)
    while start >= 0:
        depth, place = 1, start + len(_BOXED)
        while place < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            place += 1
        if not depth:
            found.append((start, text[start + len(_BOXED) : place - 1].strip()))
        start = text.find(_BOXED, start + 1)
    return found
