"""Is an answer right? The one owner of that question: bench, evals, gate and the trainer ask here.

A response's answer is what stands in its last mark, `\\boxed{...}` or `#### ...` to the end of the line; a
response without one has no answer: a parse failure, not a wrong answer. It is right where it is

    the same text                    without `$`, `**` and a full stop around it
    or a number of the same value    1,234 = 1234.0, \\frac{1}{2} = 0.5 = 1/2; words after the number on one
                                     side alone are no matter (10 apples = 10), nor is a currency; 50% is 50
                                     and 0.5, 3 million is 3 and 3000000
    or the same by math-verify       LaTeX, sets, equations ...; scorer `exact` does without

What the first two decide never reaches math-verify, so that most answers cost microseconds; two numbers are
always decided here, so that a verdict does not depend on the way it came by. Knows texts only.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import threading
from dataclasses import dataclass
from fractions import Fraction

CORRECT, WRONG, NO_ANSWER = "correct", "wrong", "no_answer"
MATH_VERIFY, EXACT = SCORERS = ("math_verify", "exact")
TIME_LIMIT_S = 10.0
TOLERANCE = Fraction(1, 10**9)
"""Of two numbers, relative: 0.333333333 is not 1/3, 0.3333333333 is."""
MAX_NUMBER = 100
"""Characters of a number; longer ones are compared as texts, since they would take time without end."""
MAX_ANSWER = 10_000
"""Characters of an answer that is looked into; a longer one is right only where it is the same text."""

_HASH = re.compile(r"(?<!#)####(?!#)\s*((?:(?!####)[^\n])+)")
_BRACE = re.compile(r"\\boxed\{|[{}]")
_AROUND = (("`", "`"), ("\\(", "\\)"), ("\\[", "\\]"))
_PAIRS = re.compile(r"\$([^$]*)\$|\*\*([^*]+)\*\*")
_END = re.compile(r"(?:<\|[^|<>]{1,40}\|>|</s>)$")
"""Of a turn, where a server leaves it in the text."""
_SPACES = re.compile(r"\\[,;: ]|~|\\q?quad(?![a-zA-Z])")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}")

_DECIMAL = r"(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,2}(?!\d))?"
_QUANTITY = re.compile(
    rf"""(?P<sign>[-+−]?)\s*  (?:\\?\$|[€£¥])?  \s*(?P<second>[-+−]?)\s*
    (?: \\[dt]?frac\s* (?: \{{\s*(?P<up>{_DECIMAL})\s*\}}\s*\{{\s*(?P<down>{_DECIMAL})\s*\}} | (?P<two>\d\d) )
      | (?P<whole>{_DECIMAL}) (?: \s*/\s* (?P<part>{_DECIMAL}) )? )
    (?: \s*(?P<symbol>\\?%|°|\^\s*\\circ|\^\s*\{{\s*\\circ\s*\}})
      | [\s,(]\s*(?P<words>[^\W\d_]{{2}}[^\d+*=^\\{{}}<>_|]*) )?
    """,
    re.VERBOSE,
)
_SCALES = {"%": Fraction(1, 100), "percent": Fraction(1, 100), "dozen": Fraction(12),
           "hundred": Fraction(10**2), "thousand": Fraction(10**3), "million": Fraction(10**6),
           "billion": Fraction(10**9), "trillion": Fraction(10**12)}  # fmt: skip
_NO_UNITS = {"and", "or", "plus", "minus", "times", "over", "to", "if", "mod", "pi", "sqrt", "log", "ln",
             "exp", "sin"}  # fmt: skip
"""Words that say more than what is counted: such a text is math-verify's to read."""


def extract(text: str) -> str | None:
    """The response's answer; None where it gives none. Empty marks are passed over: `\\boxed{}` is what
    prompts say."""
    boxes = _boxes(text)
    marks = [(start, inside.strip()) for start, _, inside in boxes]
    for match in _HASH.finditer(text):
        if not any(start < match.start() < end for start, end, _ in boxes):
            marks.append((match.start(), match[1].strip()))
    return max(((place, answer) for place, answer in marks if answer), default=(0, None))[1]


def decide(predicted: str, expected: str) -> bool | None:
    """Whether it is the same text or value; None where only mathematics can tell. Takes microseconds."""
    left, right = plain(predicted), plain(expected)
    if left == right:
        return True
    if max(len(left), len(right)) > MAX_ANSWER:
        return False
    one, other = _quantity(left), _quantity(right)
    if one is None or other is None:
        return None
    if one.unit == other.unit:
        return _close(one.value, other.value)
    if not any(_close(a, b) for a in one.readings for b in other.readings):
        return False
    return None if one.unit and other.unit else True


def decide_response(response: str, expected: str) -> bool | None:
    """`decide` for a whole response; False where it gives no answer."""
    predicted = extract(response)
    return False if predicted is None else decide(predicted, expected)


def vote(answer: str) -> str:
    """A text that is the same for answers which count as one: numbers by value, whatever is counted."""
    text = plain(answer)
    quantity = _quantity(text)
    return text if quantity is None else str(quantity.value)


def plain(text: str) -> str:
    """Without what people put around an answer: spaces, `$`, `**`, a full stop; LaTeX's spaces and \\text
    resolved. A text longer than MAX_ANSWER as it is: to take off `</s>` again and again takes minutes."""
    if len(text) > MAX_ANSWER:
        return text
    text = re.sub(r"(?<=\d)(?:\\,|\{,\}|,\\!)(?=\d{3})", ",", text.strip())
    text = _PAIRS.sub(r"\1\2", text)
    text = " ".join(_TEXT.sub(r" \1", _SPACES.sub(" ", text)).split())
    before = None
    while text != before:
        before, text = text, _END.sub("", text.strip()).rstrip(".,;")
        for head, tail in _AROUND:
            if len(text) >= len(head) + len(tail) and text.startswith(head) and text.endswith(tail):
                text = text[len(head) : -len(tail)]
    return text


class Scorer:
    """Gives verdicts. math-verify runs in a process of its own, started by the first answer that needs it,
    and ended where an expression keeps it busy too long (`10^{10^{10}}` would, for ever): what cannot be
    verified in time is wrong.

    name: of SCORERS. To be closed; threads may share it.
    """

    def __init__(self, name: str = MATH_VERIFY, timeout_s: float = TIME_LIMIT_S) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._verified: dict[tuple[str, str], bool] = {}

    def verdict(self, predicted: str | None, expected: str) -> str:
        """CORRECT, WRONG, or NO_ANSWER for None. Raises RuntimeError where math-verify does not start."""
        if predicted is None:
            return NO_ANSWER
        right = decide(predicted, expected)
        if right is None:
            right = self.name != EXACT and self._verify(plain(predicted), plain(expected))
        return CORRECT if right else WRONG

    def is_right(self, response: str, expected: str) -> bool:
        """Whether a whole response gives the expected answer."""
        return self.verdict(extract(response), expected) == CORRECT

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _verify(self, predicted: str, expected: str) -> bool:
        """Each pair once: a benchmark asks the same problems again and again."""
        with self._lock:
            pair = (predicted, expected)
            if pair not in self._verified:
                self._verified[pair] = self._ask(predicted, expected)
            return self._verified[pair]

    def _ask(self, predicted: str, expected: str) -> bool:
        if self._child is None:
            self._child = _start()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            print(json.dumps([predicted, expected]), file=self._child.stdin, flush=True)
            ready, _, _ = select.select([self._child.stdout], [], [], self.timeout_s)
            if ready and (line := self._child.stdout.readline()):
                return bool(json.loads(line))
        except BrokenPipeError:
            pass  # out of memory, say: as a time-out
        self.close()
        return False


def _start() -> subprocess.Popen[str]:
    """Ready when it returns: what follows is timed."""
    child = subprocess.Popen(
        [sys.executable, "-m", "llada_exp.verifier"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        start_new_session=True,
    )
    assert child.stdout is not None
    if not child.stdout.readline():
        raise RuntimeError(
            f"math-verify does not start (exit code {child.wait()}); builtin.scorer=exact does without"
        )
    return child


@dataclass(frozen=True)
class _Quantity:
    """A number and what stands behind it, "" for nothing."""

    value: Fraction
    unit: str

    @property
    def readings(self) -> tuple[Fraction, ...]:
        """The values that the text may stand for: 50% is 50 and 0.5."""
        scale = _SCALES.get(self.unit.split(" ")[0])
        return (self.value,) if scale is None else (self.value, self.value * scale)


def _quantity(text: str) -> _Quantity | None:
    """None for what is no number, with words behind it or none."""
    match = _QUANTITY.fullmatch(text) if len(text) <= MAX_ANSWER else None
    if match is None or (match["sign"] and match["second"]):
        return None
    words = " ".join((match["words"] or "").lower().split())
    if _NO_UNITS.intersection(re.findall(r"[^\W\d_]+", words)):
        return None
    pair = match["two"] or ""  # \frac12
    up, down = pair[:1] or match["up"] or match["whole"], pair[1:] or match["down"] or match["part"] or "1"
    if len(up) > MAX_NUMBER or len(down) > MAX_NUMBER or not _fraction(down):
        return None
    value = _fraction(up) / _fraction(down)
    unit = words or (match["symbol"] or "").removeprefix("\\")
    return _Quantity(-value if (match["sign"] + match["second"]) in ("-", "−") else value, unit)


def _fraction(text: str) -> Fraction:
    return Fraction(text.replace(",", "").removesuffix("."))


def _close(left: Fraction, right: Fraction) -> bool:
    """Whole numbers exactly, others as closely as people write them."""
    if left.denominator == right.denominator == 1:
        return left == right
    return abs(left - right) <= TOLERANCE * max(abs(left), abs(right))


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of every closed \\boxed{...}, braces inside it balanced. In one pass: a model
    that repeats itself opens thousands."""
    boxes, opened = [], []
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            opened.append(brace)
        elif opened and (head := opened.pop())[0] != "{":
            boxes.append((head.start(), brace.end(), text[head.end() : brace.start()]))
    return boxes
