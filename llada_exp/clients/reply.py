"""The parts of an OpenAI answer, checked: other servers' are odd at times, and an odd one is no answer.

Each function raises ValueError that says in words what came instead. Knows JSON trees, no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_SHOWN = 80


@dataclass(frozen=True)
class ReadReply:
    """Of one choice. llada: what our server adds, {} of another make."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    output_tokens: int | None
    llada: Mapping[str, Any]

    @property
    def decoding(self) -> Mapping[str, Any]:
        """The parameters used, {} where the server does not say."""
        return _mapping(self.llada.get("decoding"), "llada.decoding")

    @property
    def cost(self) -> Mapping[str, Any]:
        """What the choice cost, {} where the server does not say."""
        costs = self.llada.get("choices") or [{}]
        if not isinstance(costs, list):
            raise _odd("llada.choices", costs, "a list")
        return _mapping(costs[0], "llada.choices[0]")


def read_reply(tree: Any) -> ReadReply:
    """A whole answer with its first choice."""
    choices = choices_of(tree)
    if not choices:
        raise ValueError("the answer has no choices")
    prompt_tokens, output_tokens = tokens_of(tree)
    llada = llada_of(tree)
    reply = ReadReply(text_of(choices[0]), reason_of(choices[0]), prompt_tokens, output_tokens, llada)
    _ = reply.decoding, reply.cost  # odd ones are found here
    return reply


def choices_of(tree: Any) -> list[Mapping[str, Any]]:
    """Of an answer, or of a chunk of a stream, where there may be none."""
    if not isinstance(tree, Mapping):
        raise _odd("the answer", tree, "an object")
    choices = tree.get("choices")
    if choices is None:  # of a chunk with the usage alone
        return []
    if not isinstance(choices, list):
        raise _odd("choices", choices, "a list")
    for i, choice in enumerate(choices):
        if not isinstance(choice, Mapping):
            raise _odd(f"choices[{i}]", choice, "an object")
    return choices


def text_of(choice: Mapping[str, Any]) -> str:
    """Of a chat, a chunk of one, or a completion; null is no text."""
    for name, field in (("message", "content"), ("delta", "content")):
        if choice.get(name) is not None:
            part = _mapping(choice[name], name)
            if name == "message" and field not in part:
                raise ValueError(f"message has no {field}")
            return _text(part.get(field), f"{name}.{field}")
    if "text" not in choice and "delta" not in choice:
        raise ValueError("the choice has neither message nor text")
    return _text(choice.get("text"), "text")


def reason_of(choice: Mapping[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    return None if reason is None else _text(reason, "finish_reason")


def tokens_of(tree: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Of prompt and answer, by `usage`; None where it does not say."""
    usage = _mapping(tree.get("usage"), "usage")
    names = ("prompt_tokens", "completion_tokens")
    return tuple(_count(usage.get(name), f"usage.{name}") for name in names)  # type: ignore[return-value]


def llada_of(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(tree.get("llada"), "llada")


def error_text(tree: Any) -> str:
    """What an error's body says, whatever its shape."""
    error = tree.get("error") if isinstance(tree, Mapping) else None
    text = error.get("message") if isinstance(error, Mapping) else error
    return str(text or tree)[:500]


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _odd(name, value, "an object")
    return value


def _text(value: Any, name: str) -> str:
    if value is not None and not isinstance(value, str):
        raise _odd(name, value, "a text")
    return value or ""


def _count(value: Any, name: str) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise _odd(name, value, "a number of tokens")
    return value


def _odd(name: str, value: Any, expected: str) -> ValueError:
    kind = {list: "a list", dict: "an object", str: "a text", bool: "a flag", type(None): "missing"}
    what = kind.get(type(value), f"{value!r}")
    shown = "" if value is None or what == repr(value) else f" ({str(value)[:MAX_SHOWN]!r})"
    return ValueError(f"{name} is {what}{shown}; expected {expected}")
