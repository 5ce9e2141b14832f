"""lm-eval's generation arguments become fields of a request; nothing is dropped, nothing is guessed."""

import dataclasses

import pytest

from llada_exp.checkpoints import load_model
from llada_exp.clients.pool import PoolResponse
from llada_exp.decoding import resolve
from llada_exp.evals.lm.generate import Ask, InProcess, OverHttp, decoding_fields
from llada_exp.types import DecodingParams

CHAT = ({"role": "user", "content": "What is 47 + 8?"},)


@pytest.mark.parametrize(
    ("arguments", "own", "expected"),
    [
        ({}, {}, {"max_tokens": 256, "temperature": 0.0, "seed": 0}),
        ({"max_gen_toks": 32, "until": ["\n", ""]}, {}, {"max_tokens": 32, "stop": ["\n"]}),
        ({"until": "Q:"}, {"stop": ["X"]}, {"stop": ["X"]}),
        ({"max_gen_toks": 32}, {"max_tokens": 64}, {"max_tokens": 64}),
        ({"do_sample": False, "temperature": 0.8}, {}, {"temperature": 0.0}),
        ({"do_sample": True}, {}, {"temperature": 1.0}),
        ({"temperature": 0.8}, {"temperature": 0.2, "seed": 7}, {"temperature": 0.2, "seed": 7}),
        ({"steps": 64, "cache": "dual"}, {}, {"steps": 64, "cache": "dual"}),
    ],
)
def test_arguments_become_fields_and_the_users_win(arguments, own, expected):
    found = decoding_fields(arguments, own, sample=0)
    assert {name: found[name] for name in expected} == expected
    assert not found.keys() & {"until", "do_sample", "max_gen_toks"}


def test_samples_of_a_document_have_their_own_seeds():
    assert [decoding_fields({}, {"seed": 3}, sample)["seed"] for sample in range(3)] == [3, 4, 5]


def test_the_evaluations_seed_holds_where_nothing_names_another():
    """Prevents a row that says seed 5 over answers that were sampled with seed 0."""
    assert decoding_fields({}, {}, sample=1, seed=5)["seed"] == 6
    assert decoding_fields({"seed": 2}, {}, sample=1, seed=5)["seed"] == 3


def test_an_unknown_argument_is_named_with_the_nearest_known_one():
    with pytest.raises(ValueError, match=r"gen_kwargs\.stpes is 64.*did you mean steps"):
        decoding_fields({"stpes": 64}, {}, 0)
    with pytest.raises(ValueError, match=r"gen_kwargs\.ban_ids is False"):
        decoding_fields({"ban_ids": False}, {}, 0)  # nor does a server take it


@pytest.mark.parametrize(
    ("fields", "rule"),
    [({}, "fixed"), ({"threshold": 0.9}, "threshold"), ({"factor": 1.0}, "factor"),
     ({"rule": "credit", "threshold": 0.9}, "credit")],
)  # fmt: skip
def test_a_rules_parameter_alone_means_that_rule(fields, rule):
    """Else `threshold=0.9` alone would decode one token a step and measure something else."""
    assert resolve(decoding_fields({}, fields, 0), DecodingParams()).params.rule == rule


def test_an_engine_answers_and_says_what_it_cost():
    model = load_model()
    encode = model.tokenizer.encode_text
    text = model.tokenizer.chat_text(CHAT)
    fields = decoding_fields({"max_gen_toks": 64, "until": ["####"]}, {"threshold": 0.9}, 0)
    replies = {}
    long = "x " * 200
    generator = InProcess(model, encode, batch_size=4, max_length=128)
    generator.answer([Ask(text, fields), Ask(long + text, fields)], replies.__setitem__)
    assert replies[0].response.endswith("05\n"), "cut at the stop string"
    assert replies[0].finish_reason == "stop"
    assert replies[0].decoding["threshold"] == 0.9
    assert (replies[0].nfe, replies[0].num_cut) == (pytest.approx(3, abs=3), 0)
    assert replies[1].prompt_tokens == 64, "what a row holds beside its canvas"
    assert replies[1].num_cut == len(encode(long + text)) - 64
    assert replies[0].decoding["block_length"] == 32, "the model's own, as a server says it"


def test_the_preset_says_what_is_not_named_and_what_is_asked_must_play_a_part():
    """Prevents a score in this process under another setting than the same command's on an endpoint."""
    model = load_model()
    text = model.tokenizer.chat_text(CHAT)
    preset = DecodingParams(rule="credit", threshold=0.99, cache="dual", top_p=0.5, max_tokens=7)
    replies = {}

    def generator(**required):
        encode = model.tokenizer.encode_text
        return InProcess(model, encode, 2, max_length=128, preset=preset, required=required)

    fields = decoding_fields({"max_gen_toks": 32}, {}, 0)
    generator().answer([Ask(text, fields)], replies.__setitem__)
    used = replies[0].decoding
    assert (used["rule"], used["threshold"], used["cache"], used["top_p"]) == ("credit", 0.99, "dual", 0.5)
    assert (used["max_tokens"], used["temperature"]) == (32, 0.0), "these are the task's"
    task, user = {"max_gen_toks": 32, "steps": 8}, {"threshold": 0.9}
    generator(**user).answer([Ask(text, decoding_fields(task, user, 0))], replies.__setitem__)
    assert (replies[0].decoding["rule"], replies[0].decoding["steps"]) == ("threshold", None)
    asked = {"threshold": 0.9, "steps": 8}
    with pytest.raises(ValueError, match="steps is 8 and not used: rule is 'threshold'"):
        generator(**asked).answer([Ask(text, decoding_fields({}, asked, 0))], replies.__setitem__)


class FakePool:
    """Answers in OpenAI's shape; `answers` by what is asked."""

    def __init__(self, status=200):
        self.status, self.bodies = status, []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def post(self, path, body):
        self.bodies.append((path, body))
        own = {"llada": {"decoding": {"steps": 9, "seed": 1}, "choices": [{"nfe": 5, "num_positions": 70}]}}
        usage = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        choice = {"message": {"content": "yes"}, "finish_reason": "stop"}
        good = {"choices": [choice], **usage, **own}
        bad = {"error": {"message": "too long"}}
        return PoolResponse(self.status, good if self.status == 200 else bad, "http://a:1", 2, 0.5)


def test_an_endpoint_is_asked_as_chat_or_as_text():
    pool, replies = FakePool(), {}
    asks = [Ask(CHAT, {"seed": 1, "steps": 9}), Ask("text", {"seed": 2})]
    OverHttp(lambda: pool, "name").answer(asks, replies.__setitem__)
    bodies = dict(pool.bodies)
    assert bodies["/v1/chat/completions"] == {"model": "name", "messages": list(CHAT), "seed": 1, "steps": 9}
    assert bodies["/v1/completions"] == {"model": "name", "prompt": "text", "seed": 2}
    own = dataclasses.asdict(replies[0])
    assert own["response"] == "yes"
    assert (own["nfe"], own["output_tokens"], own["attempts"], own["url"]) == (5, 2, 2, "http://a:1")
    assert own["decoding"] == {"steps": 9}


def test_a_request_that_fails_is_told_and_refusals_end_the_run():
    replies = {}
    OverHttp(lambda: FakePool(400), "n").answer([Ask("t", {})] * 3, replies.__setitem__)
    assert replies[2].error == "400: too long"
    with pytest.raises(RuntimeError, match="refused the first 8 requests"):
        OverHttp(lambda: FakePool(400), "n").answer([Ask("t", {})] * 30, replies.__setitem__)
    with pytest.raises(RuntimeError, match="refuses the key"):
        OverHttp(lambda: FakePool(401), "n").answer([Ask("t", {})], replies.__setitem__)
