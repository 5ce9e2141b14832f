"""The offline API on a random model: seeds of its prompts, log-probabilities, ends of texts and chats."""

from dataclasses import replace

import pytest

from llada_exp.checkpoints import load_model
from llada_exp.offline import Engine
from llada_exp.types import DecodingParams
from tests.server.conftest import REFERENCE

HOT = {"temperature": 20, "ignore_eos": True, "max_tokens": 6}


@pytest.fixture(scope="module")
def model():
    return load_model("hf", str(REFERENCE))


@pytest.mark.parametrize("params", [HOT, [HOT] * 4, DecodingParams(**HOT)])
def test_equal_prompts_get_answers_of_their_own_and_the_outputs_name_the_seeds(model, params):
    engine = Engine(model, batch_size=4)
    outputs = engine.generate(["a"] * 4, params)
    assert len({output.token_ids for output in outputs}) == 4
    assert len({output.seed for output in outputs}) == 4
    for output in outputs:
        (again,) = engine.generate(["a"], HOT | {"seed": output.seed})
        assert again.token_ids == output.token_ids


def test_a_seed_that_is_named_is_every_prompts(model):
    outputs = Engine(model, batch_size=2).generate(["a", "a"], HOT | {"seed": 3})
    assert outputs[0].token_ids == outputs[1].token_ids
    assert {output.seed for output in outputs} == {3}


def test_logprobs_are_one_for_each_token_and_change_nothing(model):
    engine = Engine(model, batch_size=2)
    plain, scored = (engine.generate(["a", "b"], HOT | more) for more in ({}, {"logprobs": 2}))
    assert [output.token_ids for output in plain] == [output.token_ids for output in scored]
    for output in scored:
        assert [entry.token_id for entry in output.logprobs] == list(output.token_ids)
        assert all(len(entry.top) == 2 and entry.logprob <= 0 for entry in output.logprobs)
    assert [output.logprobs for output in plain] == [(), ()]


def test_a_stop_that_only_a_broken_end_completes_is_a_stop_here_too(model):
    tokenizer = model.tokenizer
    broken = next(i for i in range(300) if tokenizer.decode([i]) == "\ufffd")
    engine = Engine(model, batch_size=1)
    output = engine.generate([[5]], {"max_tokens": 2, "ignore_eos": True})[0]
    ids = (*tokenizer.encode_text("a"), broken)
    ended = engine._with_text(replace(output, token_ids=ids), DecodingParams(stop=("a\ufffd",)))
    assert (ended.text, ended.finish_reason) == ("", "stop")


def test_a_begun_answer_is_continued(model):
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "So, "}]
    engine = Engine(model, batch_size=1)
    (output,) = engine.chat(chat, {"max_tokens": 8}, continue_last=True)
    (raw,) = engine.generate([model.tokenizer.encode_chat(chat, "open")], {"max_tokens": 8})
    assert output.token_ids == raw.token_ids
