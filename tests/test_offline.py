"""The offline API on a random model: seeds of its prompts."""

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
