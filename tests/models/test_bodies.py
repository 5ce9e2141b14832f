"""iLLaDA, LLaDA-MoE and Dream: what is read, from which files, and what is refused by name."""

import json
import shutil
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from llada_exp.bench.engine import num_flops
from llada_exp.bench.models import SHAPES
from llada_exp.checkpoints import load_model, read_model_config
from llada_exp.engine.memory import MemoryPlan, table
from llada_exp.models.parts import HeadNorms, RMSNorm, WideRMSNorm
from llada_exp.models.registry import family_of, read_architecture
from llada_exp.types import DecodingParams
from tests.engine.test_reference import REFERENCE

NAMES = ("illada", "llada_moe", "dream")
HEAD = "lm_head.weight"
every_family = pytest.mark.parametrize("name", NAMES)


def folder_of(name):
    return REFERENCE / f"{name}-random"


def raw_of(name):
    return json.loads((folder_of(name) / "config.json").read_text())


def copy(name, place, **changes):
    """The reference's folder, config.json changed; None takes a key away."""
    folder = shutil.copytree(folder_of(name), place / name)
    raw = {**raw_of(name), **changes}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))
    return folder


def tensors(name):
    return {
        k: v
        for file in sorted(folder_of(name).glob("model*.safetensors"))
        for k, v in load_file(file).items()
    }


@every_family
def test_the_family_is_told_by_config_json(name):
    assert family_of(raw_of(name), "here").name == name
    assert load_model("hf", folder_of(name)).family == name
    assert {family_of(raw, key).name for key, raw in SHAPES.items()} >= {"llada", *NAMES}


@every_family
def test_a_dcp_checkpoint_is_its_hugging_face_twin(name, tmp_path):
    step = tmp_path / "step_3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(tensors(name), checkpoint_id=step / "policy" / "weights", no_dist=True)
    there = load_model("dcp", step, base=folder_of(name))
    here = load_model("hf", folder_of(name))
    ids = torch.arange(40).view(2, 20)
    assert torch.equal(there.logits(ids), here.logits(ids))
    assert there.special == here.special


def test_a_tied_head_may_be_stored_or_not_and_must_be_the_embedding(tmp_path):
    folder = copy("illada", tmp_path)
    state = tensors("illada")
    ids = torch.arange(20).view(1, 20)
    expected = load_model("hf", folder_of("illada")).logits(ids)
    embedding = state["model.embed_tokens.weight"]
    for head in (None, embedding.clone()):
        whole = {k: v for k, v in state.items() if k != HEAD} | ({} if head is None else {HEAD: head})
        save_file(whole, folder / "model.safetensors")
        assert torch.equal(load_model("hf", folder).logits(ids), expected)
    save_file({**state, HEAD: embedding + 1}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
        load_model("hf", folder)


@pytest.mark.parametrize("name", ["illada", "llada_moe"])
def test_a_mask_that_config_json_does_not_name_is_the_tokenizers_or_a_setting(name, tmp_path):
    folder = copy(name, tmp_path)
    assert "mask_token_id" not in raw_of(name)
    assert load_model("hf", folder).special.mask == {"illada": 5, "llada_moe": 292}[name]
    assert load_model("hf", folder, mask_token_id=7).special.mask == 7
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        text = (folder / file).read_text()
        for token in ("<[MASK]>", "<|mask|>"):
            text = text.replace(token, "<nobody>")
        (folder / file).write_text(text)
    with pytest.raises(ValueError, match=r"mask_token_id is not in config\.json.*model\.mask_token_id=ID"):
        load_model("hf", folder)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("illada", {"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05; only None"),
        ("illada", {"attention_bias": True}, "attention_bias is True; only None"),
        ("illada", {"hidden_act": "gelu"}, "hidden_act is 'gelu'; only 'silu'"),
        ("illada", {"num_key_value_heads": 4}, "num_key_value_heads is 4; expected a divisor"),
        ("illada", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling is {'rope_type'"),
        ("illada", {"rope_theta": None}, "rope_theta is None; expected a positive number"),
        ("illada", {"tie_word_embeddings": None}, "tie_word_embeddings is None; expected true or false"),
        ("illada", {"rms_norm_eps": None}, "rms_norm_eps is None"),
        ("llada_moe", {"moe_router_enable_expert_bias": True}, "moe_router_enable_expert_bias is True"),
        ("llada_moe", {"shared_expert_intermediate_size": 8}, "shared_expert_intermediate_size is 8"),
        ("llada_moe", {"clip_qkv": 8.0}, "clip_qkv is 8.0; only None"),
        ("llada_moe", {"num_experts_per_tok": 17}, "num_experts_per_tok is 17; expected at most"),
        ("llada_moe", {"moe_layer_freq": [1, 2, 1]}, "moe_layer_freq is [1, 2, 1]; expected 3 of 0 and 1"),
        ("llada_moe", {"qk_layernorm": None}, "qk_layernorm is None; expected true or false"),
        ("dream", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("dream", {"rope_scaling": {"type": "dynamic"}}, "rope_scaling is {'type': 'dynamic'}"),
        ("dream", {"hidden_size": 97}, "num_attention_heads is 6; expected a divisor of 97"),
    ],
)  # fmt: skip
def test_what_would_be_computed_otherwise_is_refused_by_name(name, changes, words):
    raw = {key: value for key, value in {**raw_of(name), **changes}.items() if value is not None}
    with pytest.raises(ValueError, match=r"^config\.json: ") as caught:
        read_architecture(raw, "config.json")
    assert words in str(caught.value)


def test_theta_may_stand_as_transformers_5_writes_it():
    raw = raw_of("dream")
    theta = raw.pop("rope_theta")
    read = read_architecture(
        {**raw, "rope_parameters": {"rope_type": "default", "rope_theta": theta}}, "here"
    )
    assert read == read_architecture(raw_of("dream"), "here")


def test_missing_and_foreign_experts_are_named(tmp_path):
    folder = copy("llada_moe", tmp_path, num_experts=15)
    with pytest.raises(ValueError, match=r"not expected: model\.layers\.0\.mlp\.experts\.15"):
        load_model("hf", folder)
    folder = copy("llada_moe", tmp_path / "more", num_experts=17)
    with pytest.raises(ValueError, match=r"missing: model\.layers\.0\.mlp\.experts\.16"):
        load_model("hf", folder)


def test_a_layer_may_be_dense_and_counts_as_it_is():
    raw = {**raw_of("llada_moe"), "moe_layer_freq": [1, 0, 1]}
    shape = read_architecture(raw, "here").shape
    d, experts, chosen, width = 64, 16, 4, 32
    assert shape.mlp_widths == (chosen * width, 160, chosen * width)
    assert shape.num_idle_parameters == 2 * (experts - chosen) * 3 * d * width
    whole = read_architecture(raw_of("llada_moe"), "here").shape
    stats = {"num_tokens_forwarded": 100, "num_attention_pairs": 0, "num_logit_rows": 0}
    more = num_flops(shape, stats) - num_flops(whole, stats)
    assert more == 2 * 100 * 3 * d * (160 - chosen * width)


def test_the_plan_says_how_many_parameters_a_token_passes():
    shape = read_model_config("hf", folder_of("llada_moe")).shape
    plan = MemoryPlan(shape, torch.bfloat16, DecodingParams(), 1, 64, 64, None)
    assert f"{shape.num_active_parameters / 1e9:.2f} of {shape.num_parameters / 1e9:.2f} billion" in table(
        plan
    )
    published = read_architecture({**SHAPES["random_llada_moe_7b"], "mask_token_id": 1}, "here").shape
    assert round(published.num_parameters / 1e9) == 7
    embedding = published.vocab_size * published.d_model
    assert round((published.num_active_parameters - embedding) / 1e9, 1) == 1.4  # as its card counts


@pytest.mark.parametrize("norm", [RMSNorm, WideRMSNorm])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_norms_of_heads_together_have_the_bits_of_each_alone(norm, dtype):
    """Prevents another order of casting and scaling, which bfloat16 answers hang on."""
    random = torch.Generator().manual_seed(0)
    norms = [norm(16, 1e-6).to(dtype) for _ in range(2)]
    for each in norms:
        each.weight.data = torch.randn(16, generator=random).to(dtype)
    x = torch.randn(32, 6, 16, generator=random).to(dtype)
    alone = torch.cat([norms[0](x[:, :4]), norms[1](x[:, 4:])], dim=1)
    assert torch.equal(HeadNorms(norms, (4, 2))(x), alone)
