"""What is to be answered: the messages of a chat, the prompts of a completion, read to their first fault.

By hand, for a message that names the place and what is allowed there; a list of a million wrong entries costs
as much as its first. What they hold becomes tokens in a worker.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llada_exp.fields import shown
from llada_exp.server.processes.messages import packed_ids
from llada_exp.server.routes.errors import ApiError, bad_request
from llada_exp.server.routes.fields import IN_MESSAGE, IN_PART, check_extras
from llada_exp.types import MAX_COUNT

MAX_PROMPTS = 1024
MAX_MESSAGES = 4096
"""Where the server is not configured otherwise."""
ROLES = ("system", "developer", "user", "assistant")
_OF_TOOLS = ("tool", "function")
_FORMS = "a non-empty text, list of texts, list of token ids, or list of such lists"

_TEXT_PART = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
}
MESSAGES_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"type": "string", "enum": list(ROLES)},
            "content": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART}, {"type": "null"}],
                "description": "null or absent only of an assistant: empty text",
            },
        },
    },
}  # fmt: skip
_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}}
PROMPT_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        _IDS,
        {"type": "array", "minItems": 1, "maxItems": MAX_PROMPTS, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "maxItems": MAX_PROMPTS, "items": _IDS},
    ]
}


@dataclass(frozen=True)
class Message:
    role: str
    content: str

    def plain(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


def read_messages(value: Any, limit: int, ignore_unknown: bool = False) -> list[Message]:
    """Raises a 400 ApiError."""
    if not isinstance(value, list) or not value:
        raise _fault("messages", value, "a non-empty list of messages")
    if len(value) > limit:
        message = f"messages has {len(value)} entries; at most {limit} (server.max_messages)"
        raise bad_request(message, "messages", "invalid_value")
    return [_message(entry, f"messages[{index}]", ignore_unknown) for index, entry in enumerate(value)]


def _message(entry: Any, place: str, ignore_unknown: bool) -> Message:
    if not isinstance(entry, dict):
        raise _fault(place, entry, "an object with role and content")
    extras = {name: value for name, value in entry.items() if name not in ("role", "content")}
    check_extras(extras, ("role", "content"), ignore_unknown, IN_MESSAGE, f"{place}.")
    role = _role(entry, f"{place}.role")
    if "content" not in entry and role != "assistant":
        raise bad_request(f"{place}.content is missing", f"{place}.content", "invalid_value")
    return Message(role, _content(entry.get("content"), role, f"{place}.content", ignore_unknown))


def _role(entry: Mapping[str, Any], place: str) -> str:
    role = entry.get("role")
    if role in _OF_TOOLS:
        raise bad_request(f"{place} is {role!r}: tools are not supported", place, "unsupported_value")
    if role not in ROLES:
        if "role" not in entry:
            raise bad_request(f"{place} is missing", place, "invalid_value")
        raise _fault(place, role, f"one of {', '.join(ROLES)}")
    return role


def _content(value: Any, role: str, place: str, ignore_unknown: bool) -> str:
    if isinstance(value, str):
        return value
    if value is None and role == "assistant":
        return ""
    if not isinstance(value, list):
        raise _fault(place, value, "a text, or a list of text parts")
    return "".join(_part(part, f"{place}[{index}]", ignore_unknown) for index, part in enumerate(value))


def _part(part: Any, place: str, ignore_unknown: bool) -> str:
    if not isinstance(part, dict):
        raise _fault(place, part, "an object with type and text")
    if (kind := part.get("type")) != "text":
        if "type" not in part:
            check_extras(
                {n: v for n, v in part.items() if n != "text"}, ("type", "text"), False, IN_PART, f"{place}."
            )
            raise bad_request(f"{place}.type is missing; expected 'text'", f"{place}.type", "invalid_value")
        raise _fault(f"{place}.type", kind, "'text', the only part that this model reads")
    extras = {name: value for name, value in part.items() if name not in ("type", "text")}
    check_extras(extras, ("type", "text"), ignore_unknown, IN_PART, f"{place}.")
    if not isinstance(text := part.get("text"), str):
        raise _fault(f"{place}.text", text, "a text")
    return text


def read_prompts(value: Any) -> list[str | array[int]]:
    """One entry a prompt: text, or token ids. Raises a 400 ApiError."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise _fault("prompt", value, _FORMS)
    if _is_id(value[0]):
        return [_ids(value, "prompt")]
    if not isinstance(value[0], str | list):
        raise _fault("prompt[0]", value[0], _entry(value[0]))
    if len(value) > MAX_PROMPTS:
        message = f"prompt has {len(value)} entries; at most {MAX_PROMPTS} prompts in a request"
        raise bad_request(message, "prompt", "invalid_value")
    if isinstance(value[0], str):
        for index, text in enumerate(value):
            if not isinstance(text, str):
                raise _fault(f"prompt[{index}]", text, "a text, as prompt[0] is one")
        return list(value)
    return [_ids(ids, f"prompt[{index}]") for index, ids in enumerate(value)]


def _entry(value: Any) -> str:
    """What an entry of a list may be that is `value` instead."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _ID
    return "a text, a token id, or a list of token ids"


_ID = f"a token id: an integer from 0 to {MAX_COUNT}"


def _ids(value: Any, place: str) -> array[int]:
    if not isinstance(value, list) or not value:
        raise _fault(place, value, "a non-empty list of token ids")
    for index, entry in enumerate(value):
        if not _is_id(entry) or not 0 <= entry <= MAX_COUNT:
            raise _fault(f"{place}[{index}]", entry, _ID)
    return packed_ids(value)


def _is_id(value: Any) -> bool:
    return type(value) is int


def _fault(place: str, value: Any, expected: str) -> ApiError:
    return bad_request(f"{place} is {shown(value)}; expected {expected}", place, "invalid_value")
