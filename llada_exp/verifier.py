"""The process in which `scoring.Scorer` runs math-verify: a pair of texts a line in, true or false out.

Its own process because an expression may keep sympy busy for ever, or take all memory.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys

MAX_BYTES = 4 * 2**30


def equal(answer: str, expected: str) -> bool:
    """By math-verify, which reads LaTeX; False where it cannot read one of the two."""
    from math_verify import parse, verify

    try:
        gold, value = (
            parse(f"${text.strip().strip('$')}$", parsing_timeout=None) for text in (expected, answer)
        )
        return bool(gold and value and verify(gold, value, timeout_seconds=None))
    except Exception:  # what sympy and antlr raise for texts that a model may well write
        return False


def main() -> None:
    import logging

    import math_verify  # noqa: F401  (the import takes a second, and is not timed)

    logging.disable()  # math-verify warns that it is not timed: its process is
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        answer, expected = json.loads(line)
        print(json.dumps(equal(answer, expected)), flush=True)


if __name__ == "__main__":
    main()
