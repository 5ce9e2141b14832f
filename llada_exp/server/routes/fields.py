"""Request fields that are understood without being decoding: inert ones, unsupported ones, typos.

Many clients send fields of other servers with values that ask for nothing. Those are tolerated; a
value that asks for something we cannot do is a 400, and so is a name nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llada_exp.server.routes.errors import bad_request
from llada_exp.settings import nearest

ANYTHING: tuple[Any, ...] = ()

INERT: Mapping[str, tuple[Any, ...]] = {
    # name: values that ask for nothing, besides null; ANYTHING: never changes an answer of ours
    "user": ANYTHING,
    "store": ANYTHING,
    "metadata": ANYTHING,
    "service_tier": ANYTHING,
    "parallel_tool_calls": ANYTHING,
    "safety_identifier": ANYTHING,
    "prompt_cache_key": ANYTHING,
    "priority": ANYTHING,
    "request_id": ANYTHING,
    "skip_special_tokens": ANYTHING,
    "spaces_between_special_tokens": ANYTHING,
    "add_special_tokens": ANYTHING,
    "min_p": (0,),
    "repetition_penalty": (1,),
    "presence_penalty": (0, 1),  # NeMo-Skills copies its repetition penalty of 1 here
    "frequency_penalty": (0,),
    "length_penalty": (1,),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "detokenize": (True,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "truncate_prompt_tokens": (),
    "best_of": (1,),
    "use_beam_search": (False,),
    "include_stop_str_in_output": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (0, False),
    "echo": (False,),
    "suffix": ("",),
    "logit_bias": ({},),
    "chat_template_kwargs": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
}
_NEVER = ("truncate_prompt_tokens", "audio", "guided_json", "guided_regex", "guided_choice")


def check_extras(extras: Mapping[str, Any], names: Iterable[str], ignore_unknown: bool) -> None:
    """Pass over inert fields; raise a 400 for a value we cannot honour and for unknown names."""
    for name, value in extras.items():
        if value is None:
            continue
        if name in INERT:
            _check_inert(name, value)
        elif not ignore_unknown:
            guess = nearest(name, [*names, *INERT])
            hint = f"; did you mean {guess}?" if guess else ""
            raise bad_request(f"unknown field {name!r}{hint}", name, "unknown_field")


def _check_inert(name: str, value: Any) -> None:
    allowed = INERT[name]
    if allowed is ANYTHING and name not in _NEVER:
        return
    if any(value == a and isinstance(value, bool) == isinstance(a, bool) for a in allowed):
        return
    choices = " or ".join(repr(a) for a in allowed) or "null"
    raise bad_request(f"{name} is {value!r}, which this server does not support; only {choices}", name)
