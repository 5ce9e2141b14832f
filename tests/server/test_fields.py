"""Fields of other servers: honoured, or passed at a value that asks for nothing and a 400 at any other."""

import inspect
import json

import pytest
from openai.resources import Completions, chat

from llada_exp.decoding import OTHER_NAMES
from llada_exp.server.routes.fields import FLAG, NEUTRAL
from llada_exp.server.routes.request_decoding import resolve
from llada_exp.server.routes.schema import ChatRequest, CompletionRequest, parse, text_options
from llada_exp.types import DecodingParams
from tests.server.conftest import say
from tests.server.test_schema import refused

KINDS = {ChatRequest: say("x"), CompletionRequest: {"prompt": "x"}}


def passed(kind=ChatRequest, ignore_unknown=False, **fields):
    return parse(kind, json.dumps(KINDS[kind] | fields).encode(), ignore_unknown)


OF_VLLM = """
frequency_penalty logit_bias logprobs top_logprobs max_tokens max_completion_tokens n presence_penalty
response_format seed stop stream stream_options temperature top_p tools tool_choice reasoning_effort
thinking_token_budget include_reasoning parallel_tool_calls user use_beam_search top_k min_p
repetition_penalty watermarking length_penalty stop_token_ids include_stop_str_in_output ignore_eos
min_tokens skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens truncation_side
prompt_logprobs logprob_token_ids allowed_token_ids bad_words echo add_generation_prompt
continue_final_message add_special_tokens documents chat_template chat_template_kwargs media_io_kwargs
mm_processor_kwargs structured_outputs priority request_id session_id return_tokens_as_token_ids
return_token_ids routed_experts_prompt_start return_token_offsets return_prompt_text return_mm_kwargs
cache_salt kv_transfer_params ec_transfer_params vllm_xargs repetition_detection stream_interval suffix
prompt_embeds guided_json guided_regex guided_choice guided_grammar guided_decoding_backend
guided_whitespace_pattern logits_processors best_of structural_tag
"""
OF_SGLANG = """
return_hidden_states return_routed_experts routed_experts_start_len return_cached_tokens_details
return_prompt_token_ids return_meta_info reasoning_effort task regex ebnf json_schema stop_regex
no_stop_trim lora_path session_params separate_reasoning stream_reasoning max_dynamic_patch
min_dynamic_patch use_audio_in_video images_config custom_logit_processor custom_params input_ids rid
extra_key cache_salt ngram_corpus_id bootstrap_host bootstrap_port bootstrap_room routed_dp_rank
disagg_prefill_dp_rank data_parallel_rank custom_labels
"""
OF_OPENAI = """
audio function_call functions metadata modalities prediction prompt_cache_key prompt_cache_retention
safety_identifier service_tier store verbosity web_search_options
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted({*OF_VLLM.split(), *OF_SGLANG.split(), *OF_OPENAI.split()}))
def test_every_field_of_other_servers_is_known_and_null_names_nothing(kind, name):
    passed(kind, **{name: None})
    assert name in NEUTRAL or name in kind.model_fields
    if name in NEUTRAL and NEUTRAL[name].values is not None and name not in kind.model_fields:
        assert kind is CompletionRequest or name not in CompletionRequest.model_fields, "one owner"
        for value in NEUTRAL[name].values:
            assert passed(kind, **{name: value}).warnings == []


ANOTHER = {
    "reasoning_effort": "low",
    "verbosity": "high",
    "prediction": {"type": "content", "content": "x"},
    "web_search_options": {},
    "chat_template_kwargs": {"enable_thinking": True},
    "no_stop_trim": True,
    "return_hidden_states": True,
    "prompt_logprobs": 0,
    "presence_penalty": -1,
    "frequency_penalty": 1,
    "repetition_penalty": 1.0001,
    "logit_bias": {"5": 0},
    "lora_path": "x",
    "regex": "a",
    "min_tokens": 1,
    "structured_outputs": {"json": {}},
    "echo": True,
    "best_of": 2,
    "separate_reasoning": 1,
    "tools": [{}],
    "tool_choice": "required",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ANOTHER)
def test_another_value_is_refused_with_the_reason_and_what_is_allowed(kind, name):
    error = refused(kind, KINDS[kind] | {name: ANOTHER[name]})
    assert error.param == name
    assert "did you mean" not in error.message
    assert "; only " in error.message
    assert len(error.message.partition("not supported: ")[2]) > 20


def test_what_asks_for_nothing_here_may_be_either():
    for name, neutral in NEUTRAL.items():
        if neutral.values == FLAG:
            assert [passed(**{name: value}).warnings for value in FLAG] == [[], []]


@pytest.mark.parametrize("value", [1, 1.0])
def test_a_presence_penalty_of_exactly_one_passes_with_a_warning(value):
    (warning,) = passed(presence_penalty=value).warnings
    assert "presence_penalty is 1" in warning
    assert passed(presence_penalty=0).warnings == passed(presence_penalty=-0.0).warnings == []
    for other in (True, 0.999, 1.0000001, 2, -1, 1e-9, "1"):
        refused(ChatRequest, say("x") | {"presence_penalty": other})


def test_what_only_moves_a_request_in_time_passes_with_a_warning():
    assert passed(priority=0, service_tier="auto", store=False).warnings == []
    assert len(passed(priority=5, service_tier="flex", store=True).warnings) == 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OTHER_NAMES)
def test_other_names_mean_the_field(kind, name):
    value = "end" if OTHER_NAMES[name] == "stop" else 7
    params = resolve(passed(kind, **{name: value}), DecodingParams(), seed=0).params
    assert getattr(params, OTHER_NAMES[name]) == (("end",) if value == "end" else 7)
    assert refused(kind, KINDS[kind] | {name: -1}).param == name


def test_no_stop_words_name_none():
    assert resolve(passed(stop_words=[], stop=["a"]), DecodingParams(), 0).params.stop == ("a",)


def test_how_text_is_made_and_what_was_named_goes_with_the_job():
    assert text_options(passed()) == {"fits": True}
    assert text_options(passed(max_tokens=5)) == {}
    assert text_options(passed(gen_length=5)) == {"names": {"max_tokens": "gen_length"}}
    asked = passed(CompletionRequest, skip_special_tokens=False, add_special_tokens=False, max_tokens=1)
    assert text_options(asked) == {"skip_special_tokens": False, "add_special_tokens": False}
    passed(add_special_tokens=False)
    assert refused(ChatRequest, say("x") | {"add_special_tokens": True}).param == "add_special_tokens"
    assert refused(ChatRequest, say("x") | {"skip_special_tokens": "no"}).param == "skip_special_tokens"


MISSPELT = [
    ({"stream_options": {"include_usgae": True}}, "stream_options.include_usgae", "include_usage"),
    ({"response_format": {"tpye": "text"}}, "response_format.tpye", "type"),
    ({"messages": [{"role": "user", "content": "x", "nmae": "y"}]}, "messages[0].nmae", "name"),
    ({"messages": [{"rol": "user", "content": "x"}]}, "messages[0].rol", "role"),
    ({"messages": [{"role": "user", "contents": "x"}]}, "messages[0].contents", "content"),
    (say([{"type": "text", "txt": "x"}]), "messages[0].content[0].txt", "text"),
    (say([{"tpye": "text", "text": "x"}]), "messages[0].content[0].tpye", "type"),
]


@pytest.mark.parametrize(("fields", "place", "meant"), MISSPELT)
def test_a_misspelt_name_inside_is_refused_with_its_place_and_the_nearest(fields, place, meant):
    error = refused(ChatRequest, say("x") | fields)
    assert (error.param, error.code) == (place, "unknown_field")
    assert f"did you mean {meant}" in error.message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("n_predict", "; send max_tokens"),
        ("num_predict", "; send max_tokens"),
        ("stop_sequences", "; send stop"),
        ("random_seed", "; send seed"),
        ("extra_body", "; send its fields themselves, beside the others"),
        ("presence_penality", "; did you mean presence_penalty?"),
        ("n_probs", "; did you mean logprobs or top_logprobs?"),
        ("early_stopping", "; did you mean early_eos?"),
        ("samplers", ""),
    ],
)
def test_a_hint_never_leads_to_what_would_be_refused_too(name, hint):
    assert refused(ChatRequest, say("x") | {name: 1}).message == f"unknown field {name!r}{hint}"


def test_a_hint_names_a_field_once():
    error = refused(ChatRequest, say("x") | {"response_format": {"typ": "text"}})
    assert error.message.endswith("did you mean type?")


@pytest.mark.parametrize(("kind", "api"), [(ChatRequest, chat.Completions), (CompletionRequest, Completions)])
def test_whatever_the_openai_client_can_send_is_known(kind, api):
    """Prevents a new release's fields from being taken for misspelt ones."""
    of_the_client = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
    names = set(inspect.signature(api.create).parameters) - of_the_client
    assert names <= {*NEUTRAL, *kind.model_fields}


def test_unknown_names_pass_anywhere_where_the_server_ignores_them_and_are_in_the_warnings():
    request = passed(
        ignore_unknown=True,
        stpes=1,
        stream_options={"x": 1},
        messages=[{"role": "user", "content": "a", "nmae": "y"}],
    )
    assert len(request.warnings) == 2


def test_a_field_of_the_other_endpoint_is_said_to_be_one():
    assert "/v1/chat/completions" in refused(CompletionRequest, {"messages": []}).message
    assert "/v1/completions" in refused(ChatRequest, say("x") | {"prompt": "x"}).message
