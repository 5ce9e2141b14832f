"""The bodies of requests: types and ranges, strictly. What they mean is `llada_exp.decoding`'s business.

Decoding fields are those that `llada_exp.types` declares, checked by their declarations. Fields that are
neither here nor there nor in `fields.INERT` are refused with the nearest known name.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    create_model,
)

from llada_exp.decoding import ALIASES
from llada_exp.fields import Declaration, DecodingError
from llada_exp.server.routes.errors import ApiError, bad_request
from llada_exp.server.routes.fields import check_extras
from llada_exp.settings import MAX_TIME_S
from llada_exp.types import DECLARATIONS, REQUEST_FIELDS

MAX_CHOICES = 128
MAX_PROMPTS = 1024
OF_CHATS = ("max_completion_tokens",)
"""Names that completions have not, in OpenAI's API."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=(), allow_inf_nan=False)


def _declared(name: str) -> Any:
    """Type and default of a field that may be null, by its declaration."""

    def check(value: Any) -> Any:
        return None if value is None else _declaration(name).read(name, value)

    schema = {"anyOf": [json_schema(_declaration(name)), {"type": "null"}]}
    kind = Annotated[Any, PlainValidator(check), WithJsonSchema(schema)]
    return kind, Field(None, description=_declaration(name).help)


def _declaration(name: str) -> Declaration:
    return DECLARATIONS[name] if name in DECLARATIONS else ALIASES[name]


def json_schema(declaration: Declaration) -> dict[str, Any]:
    """What a request may say, without null."""
    d = declaration
    if d.kind == "flag":
        return {"type": "boolean"}
    if d.kind == "choice":
        return {"type": "string", "enum": list(d.choices)}
    if d.kind == "texts":
        text = {"type": "string", "minLength": 1, "maxLength": d.high}
        return {"anyOf": [text, {"type": "array", "items": text, "maxItems": d.max_count}]}
    low = d.low if d.off is None else min(d.low, d.off)
    bounds: dict[str, Any] = {"exclusiveMinimum" if d.open_low else "minimum": low}
    return {"type": d.kind} | bounds | ({"maximum": d.high} if d.high is not None else {})


if TYPE_CHECKING:

    class _Decoding(_Strict): ...

    class _OfChats(_Strict): ...

else:
    OF_BOTH = [n for n in (*REQUEST_FIELDS, *ALIASES) if n not in OF_CHATS]
    _Decoding = create_model("_Decoding", __base__=_Strict, **{name: _declared(name) for name in OF_BOTH})
    _OfChats = create_model("_OfChats", __base__=_Strict, **{name: _declared(name) for name in OF_CHATS})


class StreamOptions(_Strict):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Generation(_Decoding):
    """What both endpoints share: these, every decoding field and its aliases. null means: not named."""

    model: str | None = Field(None, description="a name of /v1/models; none = the one that is served")
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_time: Annotated[float, Field(gt=0, le=MAX_TIME_S)] | None = Field(
        None, description="seconds after which the request is given up with a 408"
    )

    def value_of(self, name: str) -> Any:
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


class ChatRequest(_OfChats, Generation):
    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]


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


Body = TypeVar("Body", bound=Generation)


def parse(kind: type[Body], body: bytes, ignore_unknown: bool = False) -> Body:
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
    problems = error.errors(include_url=False)
    first = max(problems, key=lambda p: (p["loc"][0] == problems[0]["loc"][0], _depth(p)))
    names = [str(x) if isinstance(x, str) else f"[{x}]" for x in first["loc"] if _is_place(x)]
    place = "".join(n if n.startswith("[") or i == 0 else f".{n}" for i, n in enumerate(names))
    if first["loc"][0] == "prompt" and first["type"] != "missing":
        return bad_request(
            f"{place}: expected a non-empty text, list of texts, list of token ids, or list of such lists",
            place,
            "invalid_value",
        )
    if isinstance(cause := (first.get("ctx") or {}).get("error"), DecodingError):
        return bad_request(str(cause), cause.field, cause.code)
    value = repr(first.get("input"))
    shown = f" (got {value[:80]})" if first["type"] != "missing" else ""
    return bad_request(f"{place}: {first['msg']}{shown}", place, "invalid_value")


def _depth(problem: Any) -> int:
    return sum(_is_place(x) for x in problem["loc"])


def _is_place(part: str | int) -> bool:
    """pydantic puts names of union branches into a location; they are no fields."""
    return isinstance(part, int) or (part.isidentifier() and part not in ("str", "int"))
