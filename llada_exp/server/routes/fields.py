"""Fields of other servers that clients send and that are no decoding: the one table of what becomes of each.

A field is honoured (it stands in `schema.py`), or it is here: it passes at a value that asks for nothing, and
any other value is a 400 that says why and what is allowed; or nobody knows its name, which is a 400 with the
nearest one that there is. The names are those of OpenAI's API, of what vLLM, SGLang and their routers add,
and of a few others'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llada_exp.fields import shown
from llada_exp.server.routes.errors import bad_request
from llada_exp.validation import close, nearest

FLAG = (True, False)


@dataclass(frozen=True)
class Neutral:
    """A field that passes and does nothing.

    values: those that ask for nothing, besides null; None: all, it never changes an answer.
    why:    what is missing here, said where another value is refused.
    warned: those that ask for something and pass, with a line in the answer's warnings; None: all others.
    parts:  the names that an object for it may hold.
    """

    values: tuple[Any, ...] | None
    why: str = ""
    warned: tuple[Any, ...] | None = ()
    parts: tuple[str, ...] = ()


def _group(why: str, **fields: tuple[Any, ...]) -> dict[str, Neutral]:
    return {name: Neutral(values, why) for name, values in fields.items()}


def _labels(*names: str) -> dict[str, Neutral]:
    return {name: Neutral(None) for name in names}


_TOOLS = "tools are not supported"
_FREELY = "answers are text that is decoded freely, without a grammar"
_SCORING = "no prompt is scored here; python -m llada_exp.evals harness=lm_eval does"
_MESSAGE_LABELS = _labels(
    "name", "refusal", "annotations", "reasoning", "reasoning_content", "reasoning_details", "cache_control",
    "thinking_blocks", "provider_specific_fields", "id",
)  # fmt: skip

NEUTRAL: Mapping[str, Neutral] = {
    **_labels(
        "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "prompt_cache_options", "cache_salt", "cache_prompt", "request_id", "rid", "session_id", "extra_key",
        "custom_labels",
    ),
    **_group(
        "this model does no separate reasoning", include_reasoning=FLAG, separate_reasoning=FLAG,
        stream_reasoning=FLAG, reasoning_effort=("none",), thinking_token_budget=(-1,),
        enable_thinking=(False,), reasoning=({}, {"effort": "none"}, {"enabled": False}),
        thinking=({"type": "disabled"},), verbosity=("medium",),
    ),
    **_group(
        "tokens are not committed from left to right, so there is nothing that it could count",
        frequency_penalty=(0,), repetition_penalty=(1,), repeat_penalty=(1,), length_penalty=(1,),
        min_tokens=(0,), min_new_tokens=(0,), repetition_detection=(),
    ),
    "presence_penalty": Neutral(  # NeMo-Skills copies its repetition penalty of 1 here
        (0,), "tokens are not committed from left to right, so there is nothing that it could count", (1,)
    ),
    **_group(
        "tokens are drawn by temperature, top_p and top_k alone",
        min_p=(0,), typical_p=(1,), tfs_z=(1,), mirostat=(0,), logit_bias=({},), bad_words=([],),
        allowed_token_ids=(), logits_processors=([],), custom_logit_processor=(), watermarking=(False,),
        custom_params=({},), vllm_xargs=({},), do_sample=(),
    ),
    **_group("an answer ends at the end of text, at one of `stop` or `stop_token_ids`, or after max_tokens",
             stop_regex=("", []), include_stop_str_in_output=(False,),
             no_stop_trim=(False,)),
    **_group("every answer is decoded once: ask for `n`",
             best_of=(1,), use_beam_search=(False,), num_beams=(1,)),
    "response_format": Neutral(
        ({"type": "text"},), _FREELY,
        parts=("type", "json_schema", "schema", "structures", "triggers", "format"),
    ),
    **_group(_FREELY, structured_outputs=({},), guided_json=(), guided_regex=(),
             guided_choice=(), guided_grammar=(), guided_decoding_backend=(), guided_whitespace_pattern=(),
             structural_tag=(), json_schema=(), regex=(), ebnf=()),
    **_group(_TOOLS, tools=([],), tool_choice=("none", "auto"), functions=([],),
             function_call=("none", "auto"), parallel_tool_calls=FLAG, web_search_options=(),
             documents=([],)),
    **_group("prompts and answers are text alone",
             modalities=(["text"],), audio=(), media_io_kwargs=({},), mm_processor_kwargs=({},),
             images_config=(), prompt_embeds=(), input_ids=(), use_audio_in_video=(False,),
             max_dynamic_patch=(), min_dynamic_patch=()),
    **_group("a prompt is decoded whole, by the checkpoint's own chat template; too long is a 400",
             truncate_prompt_tokens=(), truncation_side=(), chat_template=(), task=()),
    **_group("text is continued at its end alone", suffix=("",)),
    **_group("no prediction would hasten the decoding", prediction=()),
    **_group("nothing is moderated", moderation=()),
    **_group("the chat template does not read it",
             chat_template_kwargs=({}, {"enable_thinking": False}, {"thinking": False},
                                   {"enable_thinking": False, "thinking": False})),
    **_group(_SCORING, echo=(False,), prompt_logprobs=(False,), logprob_token_ids=()),
    **_group("of a completion `logprobs` is the number of alternatives", top_logprobs=(0,)),
    **_group("an answer is text; `trace` gives its tokens, step by step",
             detokenize=(True,), return_token_ids=(False,), return_tokens_as_token_ids=(False,),
             return_prompt_token_ids=(False,), return_prompt_text=(False,), return_token_offsets=(False,),
             return_hidden_states=(False,), return_routed_experts=(False,), return_meta_info=(False,),
             return_cached_tokens_details=(False,), routed_experts_start_len=(0,),
             routed_experts_prompt_start=(0,), return_mm_kwargs=FLAG,
             spaces_between_special_tokens=FLAG, stream_interval=(1,)),
    **_group("one server decodes a request, with the checkpoint as it is",
             lora_path=(), session_params=({},), bootstrap_host=(), bootstrap_port=(), bootstrap_room=(),
             routed_dp_rank=(), data_parallel_rank=(), disagg_prefill_dp_rank=(), ngram_corpus_id=(),
             kv_transfer_params=({},), ec_transfer_params=({},)),
    **_group("a completion's prompt is taken as it is: continue a message in /v1/chat/completions",
             add_generation_prompt=(True,), continue_final_message=(False,)),
    "priority": Neutral((0,), "requests take turns, in their order", None),
    "service_tier": Neutral(("auto", "default"), "all requests are served alike", None),
    "store": Neutral((False,), "nothing is stored", None),
}  # fmt: skip
"""Of the body of a request."""

IN_MESSAGE: Mapping[str, Neutral] = {
    **_MESSAGE_LABELS,
    **_group(_TOOLS, tool_calls=([],), tool_call_id=(), function_call=(), tools=([],)),
    **_group("prompts are text alone", audio=()),
    **_group("say continue_final_message in the body", prefix=(False,), partial=(False,)),
}
IN_PART: Mapping[str, Neutral] = _labels("annotations", "cache_control", "prompt_cache_breakpoint", "id")
IN_STREAM_OPTIONS: Mapping[str, Neutral] = _group("chunks are not padded", include_obfuscation=(False,))

OF_OTHER_APIS: Mapping[str, str] = {
    **dict.fromkeys(("n_predict", "num_predict", "max_tokens_to_sample", "max_output_tokens"), "max_tokens"),
    **dict.fromkeys(("stop_sequences", "stop_strings"), "stop"),
    "random_seed": "seed",
    "num_return_sequences": "n",
    "input": "messages or prompt",
    **dict.fromkeys(
        ("extra_body", "options", "sampling_params", "parameters"), "its fields themselves, beside the others"
    ),
}
"""Names of other APIs, which do not look like the field that has their meaning here."""


def check_extras(
    extras: Mapping[str, Any],
    names: Iterable[str],
    ignore_unknown: bool = False,
    table: Mapping[str, Neutral] = NEUTRAL,
    place: str = "",
    elsewhere: Mapping[str, str] | None = None,
) -> list[str]:
    """Pass over neutral fields; what is to be said of those that ask for something nevertheless.

    names: that are honoured at `place` (with its dot; "" = the body). elsewhere: name -> the endpoint that
    has it.
    Raises a 400 ApiError for a value that asks for what is not here, and for unknown names.
    """
    warnings = []
    for name, value in extras.items():
        if value is None:
            continue
        field = place + name
        if name in table:
            warnings += _check_neutral(field, value, table[name])
        elif ignore_unknown:
            warnings.append(f"{shown(name)} is unknown and not used")
        else:
            message = _unknown(name, names, table, place, elsewhere or {})
            raise bad_request(message, field, "unknown_field")
    return warnings


def _unknown(
    name: str, names: Iterable[str], table: Mapping[str, Neutral], place: str, elsewhere: Mapping[str, str]
) -> str:
    """A hint leads to what is honoured; to what would be refused only where it is that name, misspelt."""
    where = f" in {place.removesuffix('.')}" if place else ""
    if name in elsewhere:
        hint = f"; it belongs to {elsewhere[name]}"
    elif not place and name in OF_OTHER_APIS:
        hint = f"; send {OF_OTHER_APIS[name]}"
    else:
        refused = [other for other, neutral in table.items() if neutral.values is not None]
        labels = [other for other in table if other not in refused]
        guess = nearest(name, [*names, *labels, *close(name, refused, 0.8)])
        hint = f"; did you mean {guess}?" if guess else ""
    return f"unknown field {shown(name)}{where}{hint}"


def _check_neutral(field: str, value: Any, neutral: Neutral) -> list[str]:
    """Warnings. Raises a 400 ApiError."""
    if neutral.values is None or _among(value, neutral.values):
        return []
    if neutral.parts and isinstance(value, Mapping):
        check_extras(
            value, neutral.parts, table=dict.fromkeys(neutral.parts, Neutral(None)), place=f"{field}."
        )
    if neutral.warned is None or _among(value, neutral.warned):
        return [f"{field} is {shown(value)} and not used: {neutral.why}"]
    choices = " or ".join(map(shown, neutral.values)) or "null"
    message = f"{field} is {shown(value)}, which is not supported: {neutral.why}; only {choices}"
    raise bad_request(message, field, "unsupported_value")


def _among(value: Any, values: Iterable[Any]) -> bool:
    """Whether it is one of them: true is no 1 here, and what is null inside an object is not there."""
    if isinstance(value, Mapping):
        value = {key: inner for key, inner in value.items() if inner is not None}
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values)
