"""Families that decode block by block (SDAR, LLaDA2, Nemotron): the published forwards, what is read, and
what is refused by name."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
import torch.distributed.checkpoint as dcp
from omegaconf import OmegaConf
from safetensors.torch import load_file

from llada_exp.bench.engine import num_flops
from llada_exp.bench.models import SHAPES
from llada_exp.checkpoints import load_model, read_model_config
from llada_exp.decoding import resolve
from llada_exp.engine import EngineCore
from llada_exp.engine.memory import MemoryPlan, table
from llada_exp.models.base import Visibility
from llada_exp.models.registry import family_of, read_architecture
from llada_exp.offline import Engine
from llada_exp.settings import conf_dir
from llada_exp.types import DecodingParams
from tests.models.test_bodies import copy, folder_of, raw_of, tensors

NAMES = ("sdar", "llada2", "llada21", "nemotron")
every_family = pytest.mark.parametrize("name", NAMES)
CLOSE = 2e-4  # the published eager attention differs from SDPA by up to 1e-4


def expected_of(name):
    folder = folder_of(name)
    return load_file(folder / "expected.safetensors"), json.loads((folder / "expected.json").read_text())


def block_of(entry):
    """What `Model.logits` takes for the attention that expected.json names."""
    if entry["attention"] == "causal":
        return None  # all is context
    return entry.get("block_length", 32)


@every_family
def test_logits_equal_the_published_forward(name):
    loaded, (tensors, facts) = load_model("hf", folder_of(name)), expected_of(name)
    assert loaded.special.mask == facts["mask_token_id"]
    for entry in facts["logits"]:
        ids, _, masks = entry["input"].partition(" + ")
        row = [*tensors[ids].tolist(), *([facts["mask_token_id"]] * 32 if masks else [])]
        logits = loaded.logits(torch.tensor([row]), block_of(entry))[0]
        wanted = tensors[entry["logits"]]
        assert (logits[-len(wanted) :] - wanted).abs().max() < CLOSE, entry


@every_family
def test_the_family_is_told_by_config_json_and_no_other_claims_it(name):
    assert family_of(raw_of(name), "here").name == name.replace("llada21", "llada2")
    assert {family_of(raw, key).name for key, raw in SHAPES.items()} >= {"sdar", "llada2"}


@every_family
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_dcp_checkpoint_is_its_hugging_face_twin(name, dtype, tmp_path):
    """With what stands beside the weights: prevents a bias that is read in the model's dtype."""
    step = tmp_path / "step_3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(tensors(name), checkpoint_id=step / "policy" / "weights", no_dist=True)
    there = load_model("dcp", step, base=folder_of(name), dtype=dtype)
    here = load_model("hf", folder_of(name), dtype=dtype)
    ids = torch.arange(40).view(2, 20)
    assert torch.equal(there.logits(ids), here.logits(ids))
    assert there.special == here.special


@every_family
def test_in_bfloat16_logits_stay_near_the_published_forward(name):
    loaded, (expected, facts) = load_model("hf", folder_of(name), dtype="bfloat16"), expected_of(name)
    entry = facts["logits"][0]
    row = [*expected["prompt_0"].tolist(), *[loaded.special.mask] * 32]
    logits = loaded.logits(torch.tensor([row]), block_of(entry))[0]
    wanted = expected[entry["logits"]]
    error = (logits[-len(wanted) :] - wanted).abs().mean()
    assert 0 < error < 0.1 * wanted.abs().mean()


def test_ends_are_those_of_generation_config_too():
    assert set(load_model("hf", folder_of("sdar")).special.ends) == {290, 288}  # <|im_end|>, <|endoftext|>
    assert load_model("hf", folder_of("llada2")).special.ends == (289, 295)  # of a turn: <|role_end|>
    assert load_model("hf", folder_of("nemotron")).special.ends == (2,)


@pytest.mark.parametrize(
    ("name", "settings", "visibility"),
    [
        ("sdar", {}, Visibility("block_causal", 4, context="alone", stops="after")),
        ("sdar", {"block_length": 16}, Visibility("block_causal", 16, context="alone", stops="after")),
        ("llada2", {}, Visibility("block_causal", 32, stops="on_commit", caps_steps=True)),
        (
            "llada2",
            {"block_length": 8, "edits": True},
            Visibility("block_causal", 8, stops="on_commit", caps_steps=True),
        ),
        ("nemotron", {}, Visibility("causal_context", 32, context="seeds")),
        ("nemotron", {"causal_context": False}, Visibility("block_context", 32, context="alone")),
    ],
)
def test_settings_say_what_config_json_does_not(name, settings, visibility):
    assert load_model("hf", folder_of(name), **settings).model.visibility == visibility
    assert read_model_config("hf", folder_of(name), **settings).visibility == visibility


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("sdar", {"edits": True}, "edits: no setting of a sdar checkpoint"),
        ("llada2", {"causal_context": False}, "causal_context: no setting of a llada2 checkpoint"),
        ("llada2", {"edits": "yes"}, "edits is 'yes'; expected true or false"),
        ("nemotron", {"causal_context": 0}, "causal_context is 0; expected true or false"),
        ("nemotron", {"block_length": 0}, "block_length is 0; expected a positive integer"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(name, settings, words):
    with pytest.raises(ValueError, match=words):
        load_model("hf", folder_of(name), **settings)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("sdar", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("sdar", {"attention_bias": True}, "attention_bias is True"),
        ("sdar", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling is {'rope_type'"),
        ("sdar", {"block_size": "4"}, "block_size is '4'; expected a positive integer"),
        ("sdar", {"head_dim": 15}, "the head width is 15; expected an even number"),
        ("llada2", {"score_function": "softmax"}, "score_function is 'softmax'; only 'sigmoid'"),
        ("llada2", {"router_dtype": "bf16"}, "router_dtype is 'bf16'; only 'fp32'"),
        ("llada2", {"moe_router_enable_expert_bias": False}, "moe_router_enable_expert_bias is False"),
        ("llada2", {"norm_topk_prob": False}, "norm_topk_prob is False"),
        ("llada2", {"use_qk_norm": False}, "use_qk_norm is False"),
        ("llada2", {"use_qkv_bias": True}, "use_qkv_bias is True"),
        ("llada2", {"norm_head": True}, "norm_head is True"),
        ("llada2", {"n_group": 3}, "n_group is 3; expected a divisor of num_experts (16)"),
        ("llada2", {"n_group": 16}, "n_group is 16; expected a divisor of num_experts (16) and groups of 2"),
        ("llada2", {"topk_group": 5}, "topk_group is 5; expected at most n_group (4)"),
        ("llada2", {"num_experts_per_tok": 9}, "num_experts_per_tok is 9; expected at most the 8"),
        ("llada2", {"first_k_dense_replace": -1}, "first_k_dense_replace is -1; expected 0 or"),
        ("llada2", {"partial_rotary_factor": 1.5}, "partial_rotary_factor is 1.5; expected a part"),
        ("llada2", {"rotary_dim": 16}, "rotary_dim is 16; expected 8, head_dim x partial_rotary_factor"),
        ("nemotron", {"sliding_window": 4096}, "sliding_window is 4096"),
        ("nemotron", {"mask_token_id": None}, "mask_token_id is None"),
        ("nemotron", {"rope_parameters": {"rope_type": "llama3"}}, "or the rope_type 'default' or 'yarn'"),
        ("nemotron", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "factor is None"),
    ],
)  # fmt: skip
def test_what_would_be_computed_otherwise_is_refused_by_name(name, changes, words):
    raw = {key: value for key, value in {**raw_of(name), **changes}.items() if value is not None}
    with pytest.raises(ValueError, match=r"^config\.json: ") as caught:
        read_architecture(raw, "config.json")
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["sdar", "llada2"])
def test_a_sliding_window_alone_means_nothing(name):
    raw = {**raw_of(name), "sliding_window": 8, "use_sliding_window": False}
    assert read_architecture(raw, "here") == read_architecture(raw_of(name), "here")


def test_tensors_that_are_missing_or_foreign_are_named(tmp_path):
    folder = copy("llada2", tmp_path, first_k_dense_replace=0)
    with pytest.raises(ValueError, match=r"missing: model\.layers\.0\.mlp\.experts\.0"):
        load_model("hf", folder)
    folder = copy("llada21", tmp_path, num_shared_experts=None)
    with pytest.raises(ValueError, match=r"not expected: model\.layers\.1\.mlp\.shared_experts"):
        load_model("hf", folder)
    folder = copy("sdar", tmp_path, model_type="illada", architectures=["ILLaDAForCausalLM"])
    with pytest.raises(ValueError, match=r"not expected: model\.layers\.0\.self_attn\.k_norm"):
        load_model("hf", folder)


@pytest.mark.parametrize(
    ("preset", "name", "settings"),
    [
        ("llada2", "llada2", {}),
        ("llada2", "llada2", {"edits": False}),
        ("llada2_1", "llada21", {"edits": True}),
        ("sdar", "sdar", {}),
        ("nemotron", "nemotron", {}),
    ],
)
def test_a_request_that_names_nothing_is_decoded_as_the_preset_of_the_family_says(preset, name, settings):
    """At both doors: prevents a yaml and a family that tell of different decodings."""
    engine = Engine(load_model("hf", folder_of(name), **settings))
    served = OmegaConf.to_container(OmegaConf.load(conf_dir() / "decoding" / f"{preset}.yaml"))
    assert replace(engine.preset, max_tokens=served["max_tokens"]) == DecodingParams(**served)
    asked = resolve({"threshold": 0.5}, engine.preset).params
    assert (asked.rule, asked.threshold, asked.cache) == (served["rule"], 0.5, "prefix")
    output = engine.generate([[20, 21, 22]], {"max_tokens": 8})[0]
    plain = engine.generate([[20, 21, 22]], {"max_tokens": 8, "cache": "none"})[0]
    assert output.token_ids == plain.token_ids


def test_what_is_float32_in_any_model_is_planned_so_and_experts_count_as_they_are_passed():
    shape = read_model_config("hf", folder_of("llada2")).shape
    d, experts, chosen, width, routed = 64, 16, 4, 24, 2
    assert shape.num_parameters == sum(tensor.numel() for tensor in tensors("llada2").values())
    assert shape.num_wide_parameters == routed * experts * (d + 1)
    assert shape.num_idle_parameters == routed * (experts - chosen) * 3 * d * width
    assert shape.mlp_widths == (160, (chosen + 1) * width, (chosen + 1) * width)
    plan = MemoryPlan(shape, torch.bfloat16, DecodingParams(), 1, 64, 64, None)
    assert plan.weights == 2 * shape.num_parameters + 2 * shape.num_wide_parameters
    assert f"{shape.num_active_parameters / 1e9:.2f} of {shape.num_parameters / 1e9:.2f} bill" in table(plan)
    stats = {"num_tokens_forwarded": 100, "num_attention_pairs": 0, "num_logit_rows": 0}
    less = read_architecture({**raw_of("llada2"), "num_shared_experts": None}, "here").shape
    assert (
        num_flops(shape, stats) - num_flops(less, stats) == 2 * 100 * 3 * d * width
    )  # of one layer, the last's rows being 0


def test_published_shapes_have_the_published_sizes():
    shapes = {
        name: read_architecture({**SHAPES[name], "mask_token_id": 1}, name).shape
        for name in ("random_llada2_mini", "random_sdar_4b")
    }
    assert [round(shape.num_parameters / 1e9) for shape in shapes.values()] == [16, 4]
    assert round(shapes["random_llada2_mini"].num_active_parameters / 1e9, 1) == 1.4


@pytest.mark.parametrize(("name", "passes"), [("llada2", 8), ("sdar", 32)])
def test_a_block_of_llada2_takes_no_more_steps_than_the_answer_has_tokens(name, passes):
    """As published: steps = min(steps, gen_length) there, and nowhere else."""
    engine = EngineCore(load_model("hf", folder_of(name)).model, batch_size=1)
    params = DecodingParams(
        max_tokens=8, block_length=32, rule="dynamic", steps_per_block=32, threshold=1.0, ignore_eos=True
    )
    engine.add_request(list(range(10, 42)), params)
    outputs = [item.output for _ in range(60) for item in engine.step() if item.output]
    assert [output.nfe for output in outputs] == [passes]
