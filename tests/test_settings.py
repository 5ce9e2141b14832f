"""Mistakes in a configuration are said with the key, the value and the choices."""

import copy
import re

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp.settings import PLAN, PLAN_KEYS, REPLICAS, conf_dir, mix_of, serve_keys, validate


@pytest.fixture(scope="module")
def composed():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return OmegaConf.to_container(compose("serve"), resolve=True)


def with_value(tree, key, value):
    tree = copy.deepcopy(tree)
    *parents, last = key.split(".")
    node = tree
    for name in parents:
        node = node[name]
    node[last] = value
    return tree


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("batch_size", 0, "batch_size is 0; expected an integer from 1"),
        ("batch_size", "many", "batch_size is 'many'"),
        ("batch_size", True, "batch_size is True"),
        ("batch_size", 2.0, "batch_size is 2.0"),
        ("mode", "foo", "mode is 'foo'; expected one of batch, streaming"),
        ("max_wait_time", -1, "max_wait_time is -1; expected a number from 0 to 60"),
        ("max_wait_time", float("nan"), "max_wait_time is nan"),
        ("port", 70000, "port is 70000; expected an integer from 0 to 65535"),
        ("host", "", "host is ''"),
        ("workers", 0, "workers is 0"),
        ("devices", "all", "devices is 'all'; expected auto or an integer"),
        ("devices", True, "devices is True"),
        ("device", "tpu", "device is 'tpu'; expected one of auto, cpu, cuda"),
        ("dtype", "int8", "dtype is 'int8'"),
        ("seed", -1, "seed is -1"),
        ("server_info", 3, "server_info is 3"),
        ("model", "tiny", "model is 'tiny'; expected the keys source, path, base, name"),
        ("model.source", "gguf", "model.source is 'gguf'; expected one of tiny, hf, dcp"),
        ("model.source", "hf", "model.path is not set; model.source=hf needs a folder or a hub id"),
        ("decoding.rule", "magic", "decoding.rule is 'magic'; expected one of fixed"),
        ("decoding.threshold", 2, "decoding.threshold is 2; expected a number from 0 to 1"),
        ("decoding.blok_length", 3, "unknown key decoding.blok_length; did you mean decoding.block_length"),
        ("batchsize", 3, "unknown key batchsize; did you mean batch_size"),
        ("server.extra_fields", "drop", "server.extra_fields is 'drop'; expected one of reject, ignore"),
        ("engine.max_length", 1, "engine.max_length is 1; expected an integer from 2"),
        ("engine.exact", "yes", "engine.exact is 'yes'; expected true, false or null"),
        ("engine.scheduling", "continuous", "unknown key engine.scheduling"),
        ("server.max_queue", -1, "server.max_queue is -1; expected an integer from 0"),
        ("server.max_time", 0, "server.max_time is 0; expected a number from 0.001"),
        ("server.max_prompt_tokens", 0, "server.max_prompt_tokens is 0; expected an integer from 1"),
        ("server.log_prompts", 1, "server.log_prompts is 1; expected true or false"),
        ("log_level", "loud", "log_level is 'loud'; expected one of debug, info, warning, error"),
        ("log_format", "xml", "log_format is 'xml'; expected one of auto, text, json"),
        ("decoding.cfg_scale", 1.5, "at least 2 rows"),
    ],
)
def test_a_wrong_value_is_named(composed, key, value, words):
    tree = with_value(composed, key, value)
    if key == "decoding.cfg_scale":
        tree["batch_size"] = 1
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        validate(tree)
    assert "\n" not in str(caught.value)


def test_other_keys_of_model_are_its_familys(composed):
    """Prevents a setting of the checkpoint that never reaches its family, and a typo that does."""
    tree = with_value(composed, "model.mask_token_id", 5)
    tree = with_value(with_value(tree, "model.block_length", None), "model.causal_context", False)
    assert validate(tree).model.settings == {"mask_token_id": 5, "causal_context": False}
    with pytest.raises(ValueError, match=r"unknown key model\.pth; did you mean model\.path"):
        validate(with_value(composed, "model.pth", "x"))
    with pytest.raises(ValueError, match=r"unknown key model\.rope"):
        validate(with_value(composed, "model.rope", {"theta": 1}))


def test_a_missing_key_is_named(composed):
    tree = copy.deepcopy(composed)
    del tree["port"]
    with pytest.raises(ValueError, match="port is missing"):
        validate(tree)


def test_every_key_of_the_yaml_is_known_and_the_other_way_round(composed):
    nested = {f"{g}.{k}" for g in ("model", "preset", "decoding", "engine", "server") for k in composed[g]}
    nested |= {f"{PLAN}.{key}" for key in composed[PLAN]}
    assert set(composed) | nested == set(serve_keys()) | {REPLICAS, *PLAN_KEYS}


def test_the_mix_of_a_plan_takes_the_servers_canvas_where_it_names_none(composed):
    assert mix_of(composed) is None
    asked = {**composed, PLAN: {"prompt_length": 150, "max_tokens": None}}
    assert mix_of(asked) == (150, validate(asked).decoding.max_tokens)
    assert mix_of({**composed, PLAN: {"prompt_length": 150, "max_tokens": 200}}) == (150, 200)
    with pytest.raises(ValueError, match=r"plan\.prompt_length is 0"):
        mix_of({**composed, PLAN: {"prompt_length": 0, "max_tokens": None}})
