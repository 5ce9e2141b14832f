"""Toy families: found by config.json, loaded from both forms of checkpoint, and computing what they say."""

import json
import math
import re
import shutil
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from llada_exp import DecodingParams, Engine, load_model
from llada_exp.checkpoints.inspect import inspect
from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.models import registry
from llada_exp.models.base import FULL, Visibility
from llada_exp.models.family import Family, meta_network
from llada_exp.models.llada import LLaDAConfig
from llada_exp.server.processes.backend import load_backend
from tests.families import block_causal, causal_context, grouped, shifted
from tests.server.conftest import composed as composed_settings
from tests.toys import with_random_weights

TOYS = {
    "grouped": grouped,
    "shifted": shifted,
    "block_causal": block_causal,
    "causal_context": causal_context,
}
SETTINGS = {"block_causal": {"block_length": 8}, "causal_context": {"block_length": 8}}
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
TINY = json.loads((tiny_folder() / "config.json").read_text())
IDS = torch.randint(0, 250, (2, 30), generator=torch.Generator().manual_seed(0))
REFERENCE = Path(__file__).parents[1] / "reference" / "llada-random-a"


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The toys beside the families of the package, for one test."""
    families = (*registry.FAMILIES, *(toy.FAMILY for toy in TOYS.values()))
    monkeypatch.setattr(registry, "FAMILIES", families)


def settings(name: str) -> dict:
    """What config.json does not say."""
    return {"mask_token_id": TINY["mask_token_id"], **SETTINGS.get(name, {})}


def config_json(name: str) -> dict:
    sizes = {"vocab_size": TINY["vocab_size"], "eos_token_id": TINY["eos_token_id"]}
    return {**grouped.config_json(f"toy_{name}"), **sizes}


def write(folder: Path, name: str) -> Path:
    """A Hugging Face folder of the toy, with the embedded model's tokenizer."""
    skip = shutil.ignore_patterns("*.safetensors", "config.json")
    shutil.copytree(tiny_folder(), folder, ignore=skip)
    raw = config_json(name)
    (folder / "config.json").write_text(json.dumps(raw))
    network = TOYS[name].FAMILY.read({**raw, **settings(name)}, name).network()
    state = with_random_weights(network).state_dict()
    save_file({n: t for n, t in state.items() if n != HEAD}, folder / "model.safetensors")
    return folder


def write_dcp(step: Path, folder: Path, wrapper: str) -> Path:
    """The same as a training run saves it, with the tied weight under both of its names."""
    state = load_file(folder / "model.safetensors")
    state = {wrapper + n: t.clone() for n, t in {**state, HEAD: state[EMBEDDING]}.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=step / "policy" / "weights", no_dist=True)
    return step


def eager(folder: Path, ids: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The toys' forward, written out plainly: ids [T], seen bool [T, T] -> logits [T, V]."""
    w = load_file(folder / "model.safetensors")
    heads, kv_heads, width = 4, 2, 12

    def norm(x, weight):
        return weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()

    def turned(x):
        half = width // 2
        angles = torch.arange(len(x))[:, None] / 10000.0 ** (torch.arange(half) * 2 / width)
        a, b = x[..., :half], x[..., half:]
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    x = w[EMBEDDING][ids]
    for i in range(2):
        p = f"model.layers.{i}."
        h = norm(x, w[p + "input_layernorm.weight"])
        q, k, v = (
            (h @ w[p + f"self_attn.{n}_proj.weight"].T).view(len(ids), -1, width) for n in ("q", "k", "v")
        )
        q, k = turned(q), turned(k)
        mixed = torch.zeros(len(ids), heads, width)
        for head in range(heads):
            shared = head // (heads // kv_heads)
            scores = q[:, head] @ k[:, shared].T / math.sqrt(width)
            mixed[:, head] = scores.masked_fill(~seen, -math.inf).softmax(-1) @ v[:, shared]
        x = x + mixed.flatten(1) @ w[p + "self_attn.o_proj.weight"].T
        h = norm(x, w[p + "post_attention_layernorm.weight"])
        gate, up = (h @ w[p + f"mlp.{n}_proj.weight"].T for n in ("gate", "up"))
        x = x + (torch.nn.functional.silu(gate) * up) @ w[p + "mlp.down_proj.weight"].T
    return norm(x, w["model.norm.weight"]) @ w[EMBEDDING].T


def sees(name: str, length: int, block: int | None) -> torch.Tensor:
    """bool [T, T] by the definitions in models/base.py, one pair at a time."""
    current = length - (block or 0)

    def pair(i: int, j: int) -> bool:
        if name == "block_causal":
            return j // (block or 8) <= i // (block or 8)
        return name != "causal_context" or j <= i or i >= current

    return torch.tensor([[pair(i, j) for j in range(length)] for i in range(length)])


@pytest.mark.parametrize("block", [None, 4, 8])
@pytest.mark.parametrize("name", TOYS)
def test_both_forms_load_and_compute_what_the_family_says(tmp_path, name, block):
    """Prevents key heads in the wrong groups, a head width of d / H, an untied head, and another grid."""
    folder = write(tmp_path / "hf", name)
    step = write_dcp(tmp_path / "step_7", folder, "model.")
    loaded = load_model("hf", folder, **settings(name))
    twin = load_model("dcp", step, base=folder, **settings(name))
    logits = loaded.logits(IDS, block)
    assert torch.equal(logits, twin.logits(IDS, block))
    assert loaded.special == twin.special
    assert loaded.special.mask == TINY["mask_token_id"]
    assert loaded.model.shift == (name == "shifted")
    for row, ids in zip(logits, IDS, strict=True):
        torch.testing.assert_close(row, eager(folder, ids, sees(name, 30, block)), rtol=1e-4, atol=1e-4)
    inspect(folder, settings=settings(name))
    inspect(step, folder, settings=settings(name))


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_answers_through_the_offline_api(tmp_path, name):
    """Prevents a family that loads, and that no engine can decode."""
    engine = Engine(load_model("hf", write(tmp_path / "hf", name), **settings(name)), batch_size=2)
    (output,) = engine.generate(["1 + 1"], DecodingParams(max_tokens=8, threshold=0.9))
    assert output is not None


def test_a_tied_weight_may_be_stored_twice_but_not_with_two_values(tmp_path):
    """Prevents a head that config.json ties and the file does not, silently read one way or the other."""
    folder = write(tmp_path / "hf", "grouped")
    alone = load_model("hf", folder, **settings("grouped"))
    state = load_file(folder / "model.safetensors")
    save_file({**state, HEAD: state[EMBEDDING].clone()}, folder / "model.safetensors")
    twice = load_model("hf", folder, **settings("grouped"))
    assert torch.equal(twice.logits(IDS), alone.logits(IDS))
    assert twice.shape.num_parameters == alone.shape.num_parameters == sum(t.numel() for t in state.values())
    save_file({**state, HEAD: state[EMBEDDING] + 1}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"{HEAD} differs from {EMBEDDING}"):
        load_model("hf", folder, **settings("grouped"))
    del state[EMBEDDING]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"missing: {EMBEDDING}"):
        load_model("hf", folder, **settings("grouped"))


class _Biased(torch.nn.Module):
    """One weight, and a float32 buffer that belongs to the checkpoint."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.register_buffer("expert_bias", torch.zeros(3))


def test_a_buffer_of_the_checkpoint_keeps_its_dtype(tmp_path):
    """Prevents a router's float32 bias that is rounded to the model's bfloat16, or never read."""

    class Kept:
        vocab_size, mask_token_id, visibility = TINY["vocab_size"], TINY["mask_token_id"], FULL

        def network(self):
            return _Biased()

    from llada_exp.checkpoints.common import compare_tensors, expected_tensors
    from llada_exp.checkpoints.hf import locate_tensors, read_tensors
    from llada_exp.checkpoints.vetted import Vetted

    bias = torch.tensor([1.00001, 2.00001, 3.00001])
    save_file({"weight": torch.tensor([1.00001, 2.0]), "expert_bias": bias}, tmp_path / "model.safetensors")
    places = locate_tensors(tmp_path)
    compare_tensors(tmp_path, expected_tensors(Kept()), places)
    config = SimpleNamespace(architecture=Kept(), family=SimpleNamespace(name="kept"))
    vetted = Vetted(tmp_path, config, None, None, places, partial(read_tensors, places), None)
    network = vetted.load(torch.device("cpu"), torch.bfloat16).network
    assert network.weight.dtype == torch.bfloat16
    assert torch.equal(network.expert_bias, bias)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "model_type is 'gpt2' and architec"),
        ({"architectures": ["LlamaForCausalLM"]}, "'llada' (LLaDA-8B-Base"),
        ({}, "model_type is missing; expected 'dream'"),
    ],
)
def test_an_unknown_family_is_named_with_those_that_are_there(raw, words):
    """Prevents a checkpoint of another kind from being read as the nearest one."""
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        registry.family_of(raw, "here")
    assert "'toy_grouped' (none)" in str(caught.value)


def test_two_families_never_claim_one_config():
    """Prevents a family that is picked by the order of files."""
    twin = Family("twin", "none", lambda raw: True, grouped.read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "FAMILIES", (*registry.FAMILIES, twin))
        with pytest.raises(AssertionError, match="all recognise"):
            registry.family_of(TINY, "here")


def test_settings_are_the_familys_and_checked_like_a_key(tmp_path):
    """Prevents a setting that is dropped silently, and an error that blames config.json for it."""
    folder = write(tmp_path / "hf", "block_causal")
    given = settings("block_causal")
    for changes, words in (
        ({"block_length": None}, "block_length is None; expected a positive integer"),
        ({"block_length": 0}, "with mask_token_id=257, block_length=0: block_length is 0"),
        ({"mask_token_id": 10**6}, "mask_token_id is 1000000; expected an id from 0 to"),
        (
            {"edits": True},
            "edits: no setting of a toy_block_causal checkpoint; it takes mask_token_id, block",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            load_model("hf", folder, **{**given, "mask_token_id": 257, **changes})
    assert load_model("hf", folder, **given).model.visibility == Visibility("block_causal", 8)
    folder = write(tmp_path / "other", "causal_context")
    whole = load_model("hf", folder, **settings("causal_context"), causal_context=False)
    assert whole.model.visibility == FULL


def test_llada_with_grouped_key_heads_is_the_module(tmp_path):
    """Prevents a published n_kv_heads that is refused, or read into a module of other shapes."""
    raw = json.loads((REFERENCE / "config.json").read_text())
    config = LLaDAConfig.from_dict({**raw, "n_kv_heads": 2}, "here")
    assert config.to_dict()["n_kv_heads"] == 2
    network = with_random_weights(config.network())
    model = config.ready(network, load_model("hf", REFERENCE).special)
    ids = IDS % 280
    torch.testing.assert_close(model.logits(ids), network.logits(ids), rtol=1e-4, atol=1e-5)
    assert model.shape.num_parameters == sum(p.numel() for p in network.parameters())
    missing = replace(config, n_kv_heads=4).shape.num_parameters - model.shape.num_parameters
    assert missing == 2 * 2 * 32 * 64, "two key heads of 16 fewer, for k and v, in two layers"
    assert {p.device.type for p in meta_network(config).parameters()} == {"meta"}


def test_a_servers_preset_that_the_model_rules_out_ends_its_start(tmp_path):
    """Prevents a server that starts, and then refuses every request that names no cache."""
    folder = write(tmp_path / "hf", "block_causal")
    words = ["device=cpu", "model=hf", f"model.path={folder}", "model.block_length=8",
             f"model.mask_token_id={TINY['mask_token_id']}", "decoding=fast"]  # fmt: skip
    with pytest.raises(
        ValueError, match=r"decoding\.cache is 'dual'; .*none or prefix.*refresh is 'window'.*every_block"
    ):
        load_backend(composed_settings(*words, "decoding.refresh=window"), "cpu")
    with pytest.raises(ValueError, match=r"decoding\.cache is 'dual'; .*none or prefix"):
        load_backend(composed_settings(*words), "cpu")
    backend = load_backend(composed_settings(*words, "decoding.cache=prefix"), "cpu")
    assert backend.about["block_length"] == 8
    assert backend.about["caches"] == ["none", "prefix"], "what `check` asks it for"
