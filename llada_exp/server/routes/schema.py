"""The bodies of requests: types and ranges, strictly. What they mean is `llada_exp.decoding`'s business.

Decoding fields are those that `llada_exp.types` declares, checked by their declarations. Fields that are
neither here nor there nor in `fields.NEUTRAL` are refused with the nearest known name.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    create_model,
)

from llada_exp.decoding import ALIASES, OTHER_NAMES
from llada_exp.fields import Declaration, DecodingError, shown
from llada_exp.server.routes.errors import ApiError, bad_request
from llada_exp.server.routes.fields import IN_STREAM_OPTIONS, check_extras
from llada_exp.server.routes.prompts import (
    MAX_MESSAGES,
    MESSAGES_SCHEMA,
    PROMPT_SCHEMA,
    Message,
    read_messages,
    read_prompts,
)
from llada_exp.server.routes.strict_json import read_object
from llada_exp.text import ChatEnd
from llada_exp.types import DECLARATIONS, REQUEST_FIELDS
from llada_exp.validation import MAX_TIME_S

MAX_CHOICES = 128


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
    if d.kind == "ids":
        token = {"type": "integer", "minimum": d.low, "maximum": d.high}
        return {"type": "array", "items": token, "maxItems": d.max_count}
    low = d.low if d.off is None else min(d.low, d.off)
    bounds: dict[str, Any] = {"exclusiveMinimum" if d.open_low else "minimum": low}
    return {"type": d.kind} | bounds | ({"maximum": d.high} if d.high is not None else {})


if TYPE_CHECKING:

    class _Decoding(_Strict): ...

else:
    _NAMES = (*REQUEST_FIELDS, *ALIASES)
    _Decoding = create_model("_Decoding", __base__=_Strict, **{name: _declared(name) for name in _NAMES})


class StreamOptions(_Strict):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Generation(_Decoding):
    """What both endpoints share: these, every decoding field and its aliases. null means: not named.

    warnings: what was asked in fields that are no decoding, and is not done, in words.
    """

    model: str | None = Field(None, description="a name of /v1/models; none = the one that is served")
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_time: Annotated[float, Field(gt=0, le=MAX_TIME_S)] | None = Field(
        None, description="seconds after which the request is given up with a 408"
    )

    skip_special_tokens: bool | None = Field(
        None, description="false: special tokens in the answer are text, too; its end is cut off in any case"
    )
    add_special_tokens: bool | None = Field(
        None, description="false: a text prompt gets no BOS in front; a chat's template alone decides"
    )
    _warnings: list[str] = PrivateAttr(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        return self._warnings

    def forget_prompts(self) -> None:
        """They may be long, and the answer may take hours."""

    @property
    def num_logprobs(self) -> int | None:
        """Alternatives to each token whose log-probabilities are asked for; None: none are."""
        return None

    def check(self) -> None:
        """Raises a 400 ApiError for fields that contradict each other."""

    def value_of(self, name: str) -> Any:
        """The value of a declared or undeclared field, None if absent."""
        return getattr(self, name, None)


def _count(name: str, *nothing: Any) -> Any:
    """Of alternatives to a token. nothing: values that ask for none, beside null."""

    def check(value: Any) -> Any:
        is_nothing = value is None or any(value is one for one in nothing)
        return None if is_nothing else DECLARATIONS["logprobs"].check(name, value)

    schema = {
        "anyOf": [json_schema(DECLARATIONS["logprobs"]), *({"const": v} for v in nothing), {"type": "null"}]
    }
    return Annotated[Any, PlainValidator(check), WithJsonSchema(schema)]


def _read_messages(value: Any, info: ValidationInfo) -> list[Message]:
    context = info.context or {}
    return read_messages(
        value, context.get("max_messages", MAX_MESSAGES), context.get("ignore_unknown", False)
    )


class ChatRequest(Generation):
    messages: Annotated[
        list[Message], PlainValidator(_read_messages), WithJsonSchema(MESSAGES_SCHEMA)
    ] = Field(description="a chat, oldest first; content is a text, or a list of text parts")  # fmt: skip
    logprobs: bool | None = Field(None, description="true: log-probabilities of the tokens")
    top_logprobs: _count("top_logprobs") = Field(  # type: ignore[valid-type]
        None, description="beside logprobs: so many alternatives to each token"
    )
    add_generation_prompt: bool | None = Field(
        None, description="false: the prompt ends with the last message, without the header of an answer"
    )
    continue_final_message: bool | None = Field(
        None, description="true: the answer goes on with the last message, which is the assistant's"
    )

    @property
    def num_logprobs(self) -> int | None:
        return self.top_logprobs or 0 if self.logprobs else None

    @property
    def chat_end(self) -> ChatEnd:
        if self.continue_final_message:
            return "open"
        return "none" if self.add_generation_prompt is False else "header"

    def check(self) -> None:
        if self.top_logprobs and not self.logprobs:
            message = f"top_logprobs is {self.top_logprobs}, but logprobs is not true"
            raise bad_request(message, "top_logprobs", "contradiction")
        if self.continue_final_message and self.add_generation_prompt:
            message = (
                "continue_final_message and add_generation_prompt are both true: an answer either goes on "
                "with the last message or begins a new one"
            )
            raise bad_request(message, "continue_final_message", "contradiction")
        role, place = self.messages[-1].role, f"messages[{len(self.messages) - 1}].role"
        if self.continue_final_message and role != "assistant":
            message = f"continue_final_message is true, but {place} is {role!r}; expected 'assistant'"
            raise bad_request(message, "continue_final_message", "contradiction")
        if self.add_special_tokens:
            raise bad_request(
                "add_special_tokens is True, which is not supported: the chat template places them; "
                "only False",
                "add_special_tokens",
                "unsupported_value",
            )

    def forget_prompts(self) -> None:
        self.messages.clear()


class CompletionRequest(Generation):
    prompt: Annotated[list[Any], PlainValidator(read_prompts), WithJsonSchema(PROMPT_SCHEMA)]

    logprobs: _count("logprobs", False) = Field(  # type: ignore[valid-type]
        None, description="log-probabilities of the tokens, with so many alternatives to each"
    )

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs

    def prompts(self) -> list[str | array[int]]:
        """One entry per prompt: text, or token ids, packed."""
        return self.prompt

    def forget_prompts(self) -> None:
        self.prompt.clear()


ELSEWHERE = {"messages": "/v1/chat/completions", "prompt": "/v1/completions"}

Body = TypeVar("Body", bound=Generation)


def parse(
    kind: type[Body], body: bytes, ignore_unknown: bool = False, max_messages: int = MAX_MESSAGES
) -> Body:
    """The checked request in `body`. Raises a 400 ApiError that names the field at fault."""
    tree = read_object(body)
    extras = {name: value for name, value in tree.items() if name not in kind.model_fields}
    warnings = check_extras(extras, kind.model_fields, ignore_unknown, elsewhere=ELSEWHERE)
    context = {"ignore_unknown": ignore_unknown, "max_messages": max_messages}
    try:
        request = kind.model_validate(tree, context=context)
    except ValidationError as error:
        raise _invalid(error) from None
    if (options := request.stream_options) is not None:
        place, names = "stream_options.", StreamOptions.model_fields
        warnings += check_extras(options.model_extra or {}, names, ignore_unknown, IN_STREAM_OPTIONS, place)
    request.warnings.extend(warnings)
    request.check()
    return request


def text_options(request: Generation) -> Any:
    """What a job says beside its decoding: how its text is made, and what the client named."""
    names = ("skip_special_tokens", "add_special_tokens")
    options: dict[str, Any] = {name: value for name in names if (value := request.value_of(name)) is not None}
    if isinstance(request, ChatRequest) and request.chat_end != "header":
        options["chat_end"] = request.chat_end
    spelled = {field: name for name, field in OTHER_NAMES.items() if request.value_of(name) is not None}
    if spelled:
        options["names"] = spelled
    if request.value_of("max_tokens") is None and "max_tokens" not in spelled:
        options["fits"] = True
    return options


_EXPECTED = {
    "model": "a text",
    "n": f"an integer from 1 to {MAX_CHOICES}",
    "max_time": f"a number above 0 to {MAX_TIME_S:g}",
    "stream_options": "an object",
    "logprobs": "true or false; top_logprobs is how many alternatives",
}
"""Of fields that are no flags, and are declared here alone."""


def _invalid(error: ValidationError) -> ApiError:
    """The first problem, with its place, the value and what is allowed."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    if isinstance(cause := (first.get("ctx") or {}).get("error"), DecodingError):
        return bad_request(str(cause), cause.field, cause.code)
    if first["type"] == "missing":
        return bad_request(f"{place} is missing", place, "invalid_value")
    words = _EXPECTED.get(place, "true or false")
    return bad_request(f"{place} is {shown(first['input'])}; expected {words}", place, "invalid_value")
