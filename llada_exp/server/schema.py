"""The bodies of requests: types and ranges, strictly. What they mean is `resolve.py`'s business.

Fields that are neither here nor in `fields.INERT` are refused with the nearest known name.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llada_exp.server.errors import ApiError, bad_request
from llada_exp.server.fields import check_extras
from llada_exp.settings import MAX_TIME_S
from llada_exp.types import MAX_COUNT, MAX_SEED

MAX_CHOICES = 128
MAX_PROMPTS = 1024

Length = Annotated[int, Field(ge=1)]
"""Bounded by what a row holds, in words that clients parse."""
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Window = Annotated[int, Field(ge=0, le=MAX_COUNT)]
StopString = Annotated[str, Field(min_length=1, max_length=1024)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=(), allow_inf_nan=False)


class StreamOptions(_Strict):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Generation(_Strict):
    """What both endpoints share. null means: not named."""

    model: str | None = Field(None, description="a name of /v1/models; none = the one that is served")
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Length | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_COUNT)] | None = Field(None, description="0 and -1: off")
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=64)] | None = None
    ignore_eos: bool | None = None
    trace: bool | None = Field(None, description="the commits of every step, in the response's llada object")
    max_time: Annotated[float, Field(gt=0, le=MAX_TIME_S)] | None = Field(
        None, description="seconds after which the request is given up with a 408"
    )
    # decoding
    rule: str | None = None
    steps: Count | None = None
    tokens_per_step: Count | None = None
    block_length: Length | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    factor: Annotated[float, Field(ge=0)] | None = None
    delta: float | None = None
    low_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    cache: str | None = None
    refresh: str | None = None
    refresh_window: Window | None = None
    refresh_interval: Count | None = None
    suffix_window: Window | None = None
    remasking: str | None = None
    cfg_scale: Annotated[float, Field(ge=0)] | None = None
    early_eos: bool | None = None
    eos_confidence: str | None = None
    # the predecessor's names
    generation_algorithm: str | None = None
    use_cache: bool | None = None
    use_dual_cache: bool | None = None

    def given(self, name: str) -> Any:
        """The value of a declared or undeclared field, None if absent."""
        return getattr(self, name, None)


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class Message(_Strict):
    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[TextPart]

    def plain(self) -> dict[str, str]:
        if isinstance(self.content, list):
            return {"role": self.role, "content": "".join(part.text for part in self.content)}
        return {"role": self.role, "content": self.content}


class ChatRequest(Generation):
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Length | None = None


class CompletionRequest(Generation):
    prompt: (
        str
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[
            list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1, max_length=MAX_PROMPTS)
        ]
    )

    def prompts(self) -> list[str | list[int]]:
        """One entry per prompt: text, or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


Request = TypeVar("Request", bound=Generation)


def parse(kind: type[Request], body: bytes, ignore_unknown: bool = False) -> Request:
    """The checked request in `body`. Raises a 400 ApiError that names the field at fault."""
    try:
        tree = json.loads(body, parse_constant=_no_constant)
        body.decode("utf-8")
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(tree, dict):
        raise bad_request("the body is not a JSON object", code="invalid_json")
    try:
        request = kind.model_validate(tree)
        json.dumps(tree, ensure_ascii=False).encode("utf-8")
    except ValidationError as error:
        raise _invalid(error) from None
    except (UnicodeEncodeError, RecursionError) as error:
        raise bad_request(f"the body holds text that is not Unicode: {error}", code="invalid_json") from None
    check_extras(request.model_extra or {}, kind.model_fields, ignore_unknown)
    if isinstance(request, ChatRequest):
        _check_messages(request.messages)
    return request


def _check_messages(messages: list[Message]) -> None:
    """Fields of a history that only annotate pass; those of tool calls would change the prompt."""
    for index, message in enumerate(messages):
        for name in ("tool_calls", "tool_call_id", "function_call"):
            if (message.model_extra or {}).get(name):
                raise bad_request(
                    f"messages[{index}].{name}: tools are not supported", f"messages[{index}].{name}"
                )


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _invalid(error: ValidationError) -> ApiError:
    """The first problem, said as 'field: problem'. Of a union, the branch that came nearest."""
    problems = error.errors(include_url=False, include_context=False)
    first = max(problems, key=lambda p: (p["loc"][0] == problems[0]["loc"][0], _depth(p)))
    names = [str(x) if isinstance(x, str) else f"[{x}]" for x in first["loc"] if _is_place(x)]
    place = "".join(n if n.startswith("[") or i == 0 else f".{n}" for i, n in enumerate(names))
    if first["loc"][0] == "prompt" and first["type"] != "missing":
        return bad_request(
            f"{place}: expected a non-empty text, list of texts, list of token ids, or list of such lists",
            place,
            "invalid_value",
        )
    value = repr(first.get("input"))
    shown = f" (got {value[:80]})" if first["type"] != "missing" else ""
    return bad_request(f"{place}: {first['msg']}{shown}", place, "invalid_value")


def _depth(problem: Any) -> int:
    return sum(_is_place(x) for x in problem["loc"])


def _is_place(part: str | int) -> bool:
    """pydantic puts names of union branches into a location; they are no fields."""
    return isinstance(part, int) or (part.isidentifier() and part not in ("str", "int"))
