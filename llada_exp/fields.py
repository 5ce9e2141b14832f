"""How a field of decoding is declared: type, bounds, owning rules and words, all in one place.

`llada_exp.types` declares the fields with these helpers; what checks, parses, lists or explains them reads
the declarations. Knows no field by name.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Code = Literal["invalid_value", "contradiction", "unknown_field"]
KEY = "declaration"


class DecodingError(ValueError):
    """What was asked of decoding cannot be. field: the name at fault; code: what is wrong with it."""

    def __init__(self, message: str, field: str, code: Code = "invalid_value") -> None:
        super().__init__(message)
        self.field = field
        self.code: Code = code

    def __reduce__(self) -> tuple[type, tuple[str, str, Code]]:  # it may cross processes
        return type(self), (str(self), self.field, self.code)


class TokenError(ValueError):
    """A token of a prompt that no prompt may hold. position: its index there."""

    def __init__(self, position: int, token: Any, expected: str) -> None:
        super().__init__(f"token {position} of the prompt is {shown(token)}; expected {expected}")
        self.position = position
        self.at_fault = f"is {shown(token)}; expected {expected}"


class ContextLengthError(ValueError):
    """A row that is too long.

    limit: positions of the longest row; prompt, answer: tokens asked for; blocks: positions of the row in
    whole blocks of `block_length`, where the model's grid is anchored at 0, else None.
    """

    def __init__(self, limit: int, prompt: int, answer: int, block_length: int, blocks: int | None) -> None:
        self._facts = (limit, prompt, answer, block_length, blocks)
        self.room = limit - prompt - (0 if blocks is None else limit % block_length)  # of an answer
        super().__init__(self.words())

    def words(
        self, prompt: str = "prompt", names: Mapping[str, str] | None = None, fits: bool = False
    ) -> str:
        """In vLLM's words, which clients look for, and advice that helps. prompt: the input's name; names: of
        the fields max_tokens and block_length, as the user wrote them; fits: they wrote no max_tokens, and
        there is no room for any answer."""
        limit, tokens, answer, block_length, blocks = self._facts
        usable = limit if blocks is None else limit - limit % block_length
        spelled = {name: (names or {}).get(name, name) for name in ("max_tokens", "block_length")}
        if blocks is not None and (tokens + (1 if fits else answer) <= limit or not usable):
            advice = f"lower {spelled['block_length']}"
        elif self.room < 1:
            advice = f"reduce the length of the {prompt}"
        else:
            advice = f"reduce the length of the {prompt} or {spelled['max_tokens']}"
        if fits:
            answer_words = ""
            whole = "" if usable == limit else f" ({usable} in whole blocks of {block_length})"
        else:
            whole = "" if blocks is None else f" ({blocks} positions in whole blocks of {block_length})"
            answer_words, whole = f"you requested {answer} output tokens{whole} and ", ""
        return (
            f"This model's maximum context length is {limit} tokens{whole}. However, "
            f"{answer_words}your request has {tokens} input tokens. Please {advice}."
        )


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One field.

    kind:     of its value; `texts` is one text or several, `ids` are token ids, both kept as a tuple.
    default:  where nothing is said; None = the field may be None.
    help:     one line for a user.
    rules:    the rules whose parameter it is, the one that it implies when it is named alone first;
              () = it belongs to none.
    beside:   (another field, its values): beside other values of that field it plays no part.
    yields:   beside another rule it is not used, rather than refused.
    low, high, open_low: of numbers, inclusive (high None: no bound; open_low: above `low`); of texts, high is
              the length of one.
    choices:  of a choice. max_count: of texts and ids.
    off:      another value that stands for the default, as clients of other servers send it.
    preset:   whether it may be a default for all requests; if not, it makes sense for one alone.
    request:  whether a client may name it.
    """

    kind: Literal["integer", "number", "flag", "choice", "texts", "ids"]
    default: Any
    help: str
    rules: tuple[str, ...] = ()
    beside: tuple[str, tuple[str, ...]] | None = None
    yields: bool = False
    low: float = 0
    high: float | None = None
    open_low: bool = False
    choices: tuple[str, ...] = ()
    max_count: int = 0
    off: int | None = None
    preset: bool = True
    request: bool = True

    def check(self, name: str, value: Any) -> Any:
        """The value as it is kept: numbers as float, texts as a tuple. Raises DecodingError naming the field,
        the value and what is allowed."""
        if value is None and self.default is None:
            return None
        result, expected = getattr(self, f"_{self.kind}")(value)
        if expected:
            raise DecodingError(f"{name} is {shown(value)}; expected {expected}", name)
        return result

    def read(self, name: str, value: Any) -> Any:
        """As `check`, for a value that a request names."""
        return self.default if type(value) is int and value == self.off else self.check(name, value)

    def _integer(self, value: Any) -> tuple[Any, str]:
        good = isinstance(value, int) and not isinstance(value, bool) and self._within(value)
        bounds = f">= {self.low}" if self.high is None else f"from {self.low} to {self.high}"
        return value, "" if good else f"an integer {bounds}"

    def _number(self, value: Any) -> tuple[Any, str]:
        assert self.high is not None
        good = isinstance(value, int | float) and not isinstance(value, bool) and self._within(value)
        bounds = f"{'above' if self.open_low else 'from'} {self.low:g} to {self.high:g}"
        return (float(value), "") if good else (value, f"a number {bounds}")

    def _flag(self, value: Any) -> tuple[Any, str]:
        return value, "" if isinstance(value, bool) else "true or false"

    def _choice(self, value: Any) -> tuple[Any, str]:
        good = isinstance(value, str) and value in self.choices
        return value, "" if good else f"one of {', '.join(self.choices)}"

    def _texts(self, value: Any) -> tuple[Any, str]:
        texts = (value,) if isinstance(value, str) else value
        assert self.high is not None
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) and t for t in texts):
            return value, "non-empty strings"
        if len(texts) > self.max_count or any(len(t) > self.high for t in texts):
            return value, f"at most {self.max_count} strings of at most {self.high} characters"
        return tuple(texts), ""

    def _ids(self, value: Any) -> tuple[Any, str]:
        expected = f"at most {self.max_count} token ids from {self.low} to {self.high}"
        if not isinstance(value, list | tuple) or len(value) > self.max_count:
            return value, expected
        return tuple(value), "" if not any(self._integer(id)[1] for id in value) else expected

    def _within(self, value: float) -> bool:
        """False for what is no number, too; integers may be larger than any float."""
        above = value > self.low if self.open_low else value >= self.low
        return above and (value <= self.high if self.high is not None else value < math.inf)


def integer(default: int | None, low: int, high: int | None, help: str, **facts: Any) -> Any:
    return _declared("integer", default, help, low=low, high=high, **facts)


def number(default: float, low: float, high: float, help: str, **facts: Any) -> Any:
    return _declared("number", default, help, low=low, high=high, **facts)


def flag(default: bool, help: str, **facts: Any) -> Any:
    return _declared("flag", default, help, **facts)


def choice(default: str, choices: tuple[str, ...], help: str, **facts: Any) -> Any:
    return _declared("choice", default, help, choices=choices, **facts)


def texts(max_count: int, max_length: int, help: str, **facts: Any) -> Any:
    return _declared("texts", (), help, max_count=max_count, high=max_length, **facts)


def ids(max_count: int, largest: int, help: str, **facts: Any) -> Any:
    return _declared("ids", (), help, max_count=max_count, high=largest, **facts)


def declarations(cls: type) -> dict[str, Declaration]:
    """Of a dataclass whose fields are all declared by these helpers, in its order."""
    return {f.name: f.metadata[KEY] for f in fields(cls)}


def _declared(kind: Any, default: Any, help: str, **facts: Any) -> Any:
    declaration = Declaration(kind=kind, default=default, help=help, **facts)
    return field(default=default, metadata={KEY: declaration})


_repr = reprlib.Repr()
_repr.maxstring = _repr.maxlong = _repr.maxother = 200
_repr.maxlist = _repr.maxtuple = _repr.maxdict = 8
_repr.maxlevel = 4


def shown(value: Any) -> str:
    """A value for a message: short, however large or deep it is. An integer of thousands of digits cannot be
    printed, and need not be."""
    try:
        text = _repr.repr(value)
    except ValueError:
        return "a huge integer"
    return text if len(text) <= 200 else f"{text[:200]}..."
