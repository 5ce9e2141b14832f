"""The parts of an OpenAI answer, checked: other servers' are odd at times, and an odd one is no answer.

Each function raises ValueError that says in words what came instead. Knows JSON trees, no HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_SHOWN = 80
MAX_COUNT = 2**53
"""Tables hold no larger number of tokens or passes."""


COSTS = (("nfe", "a number of passes"), ("num_positions", "a number of positions"))
"""Of what our server says of a choice's cost, the counts."""


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
        cost = _mapping(costs[0], "llada.choices[0]")
        counts = {name: _count(cost[name], f"llada.{name}", what) for name, what in COSTS if name in cost}
        if not isinstance(cost.get("e2el_ms"), int | float | None):
            raise _odd("llada.e2el_ms", cost["e2el_ms"], "milliseconds")
        return {**cost, **counts}


def read_reply(tree: Any) -> ReadReply:
    """A whole answer with its first choice."""
    check_no_error(tree)
    choices = choices_of(tree)
    if not choices:
        raise ValueError("the answer has no choices")
    prompt_tokens, output_tokens = tokens_of(tree)
    llada = llada_of(tree)
    reply = ReadReply(text_of(choices[0]), reason_of(choices[0]), prompt_tokens, output_tokens, llada)
    _ = reply.decoding, reply.cost  # odd ones are found here
    return reply


def plain_reply(tree: Any, is_chat: bool) -> dict[str, Any]:
    """An answer with all its choices in OpenAI's shape, and nothing that a client of another make could
    stumble over: null where an object belongs, a completion's text in a chat, extras of any kind."""
    reply = read_reply(tree)
    prompt_tokens, output_tokens = reply.prompt_tokens or 0, reply.output_tokens or 0
    return {
        "id": _text_or(tree.get("id"), "answer"),
        "object": "chat.completion" if is_chat else "text_completion",
        "created": tree["created"] if type(tree.get("created")) is int else int(time.time()),
        "model": _text_or(tree.get("model"), ""),
        "choices": [_plain_choice(i, choice, is_chat) for i, choice in enumerate(choices_of(tree))],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": prompt_tokens + output_tokens,
        },
    }


def _plain_choice(index: int, choice: Mapping[str, Any], is_chat: bool) -> dict[str, Any]:
    text, plain = text_of(choice), {"index": index, "finish_reason": reason_of(choice) or "stop"}
    if not is_chat:
        return {**plain, "text": text, **_texts(choice, ("stop_reason", "matched_stop"))}
    extras = _texts(_mapping(choice.get("message"), "message"), ("reasoning_content",))
    return {**plain, "message": {"role": "assistant", "content": text, **extras}}


def _texts(tree: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    return {name: tree[name] for name in names if isinstance(tree.get(name), str)}


def _text_or(value: Any, default: str) -> str:
    return value if isinstance(value, str) else default


def check_no_error(tree: Any) -> None:
    """Some servers and routers say a failure in a 200."""
    if isinstance(tree, Mapping) and tree.get("error"):
        raise ValueError(f"the answer failed: {error_text(tree)}")


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


def _count(value: Any, name: str, expected: str = "a number of tokens") -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and (type(value) is not int or not 0 <= value <= MAX_COUNT):
        raise _odd(name, value, expected)
    return value


def _odd(name: str, value: Any, expected: str) -> ValueError:
    kind = {list: "a list", dict: "an object", str: "a text", bool: "a flag", type(None): "null"}
    what = kind.get(type(value), repr(value)[:MAX_SHOWN])
    shown = "" if value is None or type(value) not in kind else f" ({str(value)[:MAX_SHOWN]!r})"
    return ValueError(f"{name} is {what}{shown}; expected {expected}")
