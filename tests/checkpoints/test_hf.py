"""Hugging Face folders: what loads, what is refused and by which words, and what it costs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llada_exp import load_model
from llada_exp.checkpoints.hf import load_hf

SHARD = "model-00002-of-00003.safetensors"
INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        load_model(source="hf", path=folder)
    for word in words:
        assert word in str(caught.value), f"{word!r} not in: {caught.value}"


def change(path: Path, **changes: object) -> None:
    """Set keys of a json file; None removes one."""
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))


def rewrite(path: Path, edit) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def test_a_loaded_model_is_ready_for_inference(single):
    """Prevents dropout, gradients and a model that keeps the file mapped."""
    loaded = load_model(source="hf", path=single)
    assert loaded.logits(torch.zeros(1, 3, dtype=torch.long)).is_inference()
    assert (loaded.name, loaded.source, loaded.path) == (single.name, "hf", str(single))
    tensors = load_file(single / WHOLE)
    assert loaded.shape.num_parameters == sum(t.numel() for t in tensors.values())
    module = load_hf(single, torch.device("cpu"), torch.float32).network
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, tensors[name])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_dtype_is_cast_on_the_way(single, dtype):
    """Prevents a model that stays in the file's dtype, or is rounded twice."""
    module = load_hf(single, torch.device("cpu"), getattr(torch, dtype)).network
    for name, tensor in load_file(single / WHOLE).items():
        parameter = module.get_parameter(name)
        assert parameter.dtype == getattr(torch, dtype)
        assert torch.equal(parameter, tensor.to(parameter.dtype))


def test_special_ids_come_from_config_and_tokenizer(copy_of):
    folder = copy_of("a")
    special = load_model(source="hf", path=folder).special
    assert (special.mask, special.ends, special.bos, special.num_emittable) == (293, (289, 292), 288, 294)
    tokenizer = folder / "tokenizer.json"
    for path in (tokenizer, folder / "tokenizer_config.json"):
        path.write_text(path.read_text().replace("<|eot_id|>", "<|other|>"))
    assert load_model(source="hf", path=folder).special.ends == (289,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask_token_id": None}, ["mask_token_id is None", "expected an id"]),
        ({"mask_token_id": 320}, ["mask_token_id is 320", "0 to 319"]),
        ({"mask_token_id": -1}, ["mask_token_id is -1"]),
        ({"mask_token_id": 289}, ["mask_token_id is 289", "ends an answer"]),
        ({"mask_token_id": 292}, ["mask_token_id is 292", "ends an answer"]),
        ({"mask_token_id": 288}, ["mask_token_id is 288", "BOS"]),
        ({"model_type": "llama"}, ["model_type is 'llama'", "'llada' (LLaDA-8B-Base"]),
        ({"alibi": True}, ["alibi is True", "False"]),
        ({"layer_norm_type": "low_precision"}, ["layer_norm_type", "'rms'"]),
        ({"n_kv_heads": 3}, ["n_kv_heads is 3", "divisor of n_heads (4)"]),
        ({"vocab_size": 290, "embedding_size": 290, "mask_token_id": 280}, ["294 tokens", "290 embeddings"]),
    ],
)
def test_config_is_refused_by_key(copy_of, changes, words):
    """Prevents a switch that is read as implemented, and a mask id that means something else."""
    folder = copy_of("a")
    change(folder / "config.json", **changes)
    refused(folder, str(folder), *words)


def test_files_that_are_missing_or_broken_are_named(copy_of, tmp_path):
    folder = copy_of("b")
    (folder / SHARD).rename(folder / "elsewhere")
    refused(folder, str(folder / SHARD), "no such file", INDEX)
    (folder / "elsewhere").rename(folder / SHARD)
    (folder / INDEX).write_text("{")
    refused(folder, str(folder / INDEX), "json")
    (folder / INDEX).write_text('{"weight_map": {"x": "../x.safetensors"}}')
    refused(folder, INDEX, "../x.safetensors", "beside it")
    (folder / INDEX).write_text("{}")
    refused(folder, INDEX, "weight_map")
    (folder / "config.json").write_text("[]")
    refused(folder, "config.json", "list", "json object")
    (folder / "config.json").unlink()
    refused(folder, str(folder / "config.json"), "no such file")
    refused(tmp_path / "nowhere", str(tmp_path / "nowhere"), "no such folder")
    refused(folder / INDEX, INDEX, "expected the folder")


@pytest.mark.parametrize("size", [0, 4, 1000, -1])
def test_a_half_written_file_is_named(copy_of, size):
    """Prevents reading past the end of a mapping, which kills the process."""
    folder = copy_of("a")
    path = folder / WHOLE
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    refused(folder, str(path), "half-written")


def test_tensors_that_are_missing_extra_or_of_another_shape_are_named(copy_of):
    """Prevents uninitialised layers, and a deeper checkpoint that runs shallow."""
    name = "model.transformer.blocks.1.q_proj.weight"
    folder = copy_of("a")
    whole = (folder / WHOLE).read_bytes()
    rewrite(folder / WHOLE, lambda tensors: tensors.pop(name))
    refused(folder, str(folder), "missing: " + name, "found 20 tensors", "expected the 21")
    (folder / WHOLE).write_bytes(whole)
    extra = name.replace("blocks.1", "blocks.2")
    rewrite(folder / WHOLE, lambda tensors: tensors.update({extra: torch.zeros(64, 64)}))
    refused(folder, "not expected: " + extra)
    (folder / WHOLE).write_bytes(whole)
    rewrite(folder / WHOLE, lambda tensors: tensors.update({name: torch.zeros(64, 32)}))
    refused(folder, str(folder / WHOLE), name, "(64, 32)", "(64, 64)")
    rewrite(folder / WHOLE, lambda tensors: tensors.update({name: torch.zeros(64, 64, dtype=torch.int8)}))
    refused(folder, str(folder / WHOLE), name, "I8", "F32")


def test_a_shard_and_its_index_must_agree(copy_of):
    """Prevents a tensor that only one of the two knows of."""
    folder = copy_of("b")
    rewrite(folder / SHARD, lambda tensors: tensors.update({"stray": torch.zeros(2)}))
    refused(folder, str(folder / SHARD), "not expected: stray", INDEX)
    rewrite(
        folder / SHARD, lambda tensors: (tensors.pop("stray"), tensors.pop("model.transformer.ln_f.weight"))
    )
    refused(folder, str(folder / SHARD), "missing: model.transformer.ln_f.weight")


def test_pickles_and_adapters_are_refused(copy_of):
    """Prevents torch.load, and serving an adapter's base as if it were the tuned model."""
    folder = copy_of("a")
    (folder / WHOLE).rename(folder / "pytorch_model.bin")
    refused(folder, str(folder), "pytorch_model.bin", "safetensors")
    (folder / "pytorch_model.bin").unlink()
    refused(folder, "found neither")
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "LoRA adapter")


def test_an_unreachable_hub_id_is_one_error(monkeypatch):
    """Prevents a client's traceback, and minutes of retries, on a machine without a network."""
    import huggingface_hub

    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no network\nlong story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    refused(Path("nobody/nothing"), "nobody/nothing: neither a local folder nor reachable", "no network")


def test_a_hub_id_fetches_no_code_and_no_pickle(monkeypatch, single):
    import huggingface_hub

    asked = {}

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(single)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert load_model(source="hf", path="some-body/model.1").name == "model.1"
    assert asked == {"some-body/model.1": ["*.safetensors", "*.json", "*.jinja"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": "bin"}, "source is 'bin'; expected one of tiny, hf, dcp"),
        ({"source": "hf"}, "path is None"),
        ({"source": "tiny", "path": "x"}, "path is 'x'"),
        ({"source": "hf", "path": "x", "base": "y"}, "base is 'y'"),
        ({"source": "hf", "path": "x", "device": "tpu"}, "device is 'tpu'; expected cpu, cuda"),
        ({"source": "hf", "path": "x", "device": "cuda:99"}, "device is 'cuda:99'; this machine has"),
        ({"source": "hf", "path": "x", "dtype": "int8"}, "dtype is 'int8'; expected one of float32"),
    ],
)
def test_arguments_are_refused_by_name(arguments, words):
    with pytest.raises(ValueError, match=words):
        load_model(**arguments)


def test_the_package_alone_imports_no_torch():
    """Prevents every command's --help from costing the import of torch."""
    code = "import sys, llada_exp; llada_exp.DecodingParams(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# Prints the peak of resident memory that loading adds to the model itself, in bytes. The peak counts
# mapped file pages too, so it is an upper bound. A first load of a small model warms the imports.
_MEASURE = """
import resource, sys
from llada_exp import load_model
load_model("hf", sys.argv[1]), load_model("hf", sys.argv[1], dtype=sys.argv[3])
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
open("/proc/self/clear_refs", "w").write("5")
model = load_model("hf", sys.argv[2], dtype=sys.argv[3]).model
peak = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
print(peak - before - model.shape.num_parameters * model.dtype.itemsize)
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A synthetic checkpoint of 220 MB in four shards of about 55 MB, made shard by shard."""
    folder = tmp_path_factory.mktemp("big")
    small = Path(__file__).parents[1] / "reference" / "llada-random-a"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((small / name).read_bytes())
    change(folder / "config.json", d_model=1024, n_heads=8, n_kv_heads=8, mlp_hidden_size=3072, n_layers=4)
    shapes = {"attn_norm": (1024,), "ff_norm": (1024,), "ff_out": (1024, 3072)}
    shapes |= dict.fromkeys(("q_proj", "k_proj", "v_proj", "attn_out"), (1024, 1024))
    shapes |= dict.fromkeys(("ff_proj", "up_proj"), (3072, 1024))
    weight_map = {}
    for layer in range(4):
        shard = {f"model.transformer.blocks.{layer}.{n}.weight": torch.rand(s) for n, s in shapes.items()}
        if layer == 0:
            ends = {"wte": (320, 1024), "ln_f": (1024,), "ff_out": (320, 1024)}
            shard |= {f"model.transformer.{n}.weight": torch.rand(s) for n, s in ends.items()}
        file = f"model-{layer + 1:05}-of-00004.safetensors"
        save_file(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure the peak")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_needs_the_model_and_one_shard(big, single, dtype):
    """Prevents a second copy of the weights on the host: an 8B model that does not fit while it loads."""
    largest = max(path.stat().st_size for path in big.glob("*.safetensors"))
    command = [sys.executable, "-c", _MEASURE, str(single), str(big), dtype]
    extra = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert extra < 1.1 * largest, (
        f"{extra / 1e6:.0f} MB beyond the model; largest shard {largest / 1e6:.0f} MB"
    )
