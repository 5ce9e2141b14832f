"""DCP folders: saved by two processes, equal to their Hugging Face twin, and refused by name."""

import shutil
import warnings
from pathlib import Path

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

from llada_exp import load_model
from llada_exp.checkpoints.dcp_metadata import read_metadata
from llada_exp.checkpoints.hf import load_hf
from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.tiny.folders import write_step

IDS = torch.arange(40)[None]


def refused(path, *words, base=None):
    with pytest.raises(ValueError, match=r".") as caught:
        load_model(source="dcp", path=path, base=base)
    for word in words:
        assert word in str(caught.value), f"{word!r} not in: {caught.value}"


def same_answers(loaded, twin):
    assert torch.equal(loaded.logits(IDS), twin.logits(IDS))
    assert loaded.special == twin.special


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("form", ["v1", "v2", "safetensors"])
def test_two_processes_shards_equal_the_twin(saved, single, form, dtype):
    """Prevents shards at wrong offsets, and a cast that differs from the Hugging Face load's."""
    twin = load_model(source="hf", path=single, dtype=dtype)
    loaded = load_model(source="dcp", path=saved / form, base=single, dtype=dtype)
    assert loaded.model.dtype == twin.model.dtype == getattr(torch, dtype)
    same_answers(loaded, twin)


def test_the_test_folder_is_really_sharded(saved):
    """Prevents the twin test from passing on a folder that one process wrote whole."""
    stored = read_metadata(saved / "v1")
    assert all(len(tensor.places) == 2 for tensor in stored.values())
    assert len(list((saved / "v1").glob("*.distcp"))) == 2
    assert len(list((saved / "safetensors").glob("shard-*.safetensors"))) == 2


@pytest.mark.parametrize("inner", ["", "policy", "policy/weights"])
def test_every_level_of_a_run_is_accepted(run, single, inner):
    """Base from config.yaml, tokenizer from the run: training may have changed its template."""
    template = run / "policy" / "tokenizer" / "chat_template.jinja"
    template.write_text("{{ bos_token }}trained{{ messages[0]['content'] }}")
    loaded = load_model(source="dcp", path=run / inner)
    same_answers(loaded, load_model(source="hf", path=single))
    ids = loaded.tokenizer.encode_chat([{"role": "user", "content": "x"}])
    assert loaded.tokenizer.decode(ids) == "trainedx"


@pytest.mark.parametrize("form", ["v2", "safetensors"])
@pytest.mark.parametrize("inner", ["", "policy/weights", "policy/weights/model"])
def test_the_second_format_lies_one_folder_deeper(saved, single, tmp_path, form, inner):
    shutil.copytree(saved / form, tmp_path / "step_7" / "policy" / "weights" / "model")
    loaded = load_model(source="dcp", path=tmp_path / "step_7" / inner, base=single)
    same_answers(loaded, load_model(source="hf", path=single))


def test_a_consolidated_set_and_the_runs_own_config(single, tmp_path):
    step = tmp_path / "step_7"
    folder = step / "policy" / "weights" / "model" / "consolidated"
    shutil.copytree(single, folder, ignore=shutil.ignore_patterns("expected.*"))
    same_answers(load_model(source="dcp", path=step), load_model(source="hf", path=single))


def test_the_embedded_models_own_trainer_is_read_without_a_base(tmp_path):
    """Prevents the trainer's step folders and this loader from drifting apart."""
    tiny = load_model(source="tiny")
    backend = tokenizers.Tokenizer.from_file(str(Path(tiny.path) / "tokenizer.json"))
    state = load_hf(tiny_folder(), torch.device("cpu"), torch.float32).network.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = write_step(tmp_path, tiny.architecture, backend, state, {"step": 7})
    loaded = load_model(source="dcp", path=step)
    same_answers(loaded, tiny)
    messages = [{"role": "user", "content": "2 + 2"}]
    assert loaded.tokenizer.encode_chat(messages) == tiny.tokenizer.encode_chat(messages)


def test_the_runs_overrides_change_its_bases_config(run):
    """Prevents a model that was trained with another setting from running with its base's."""
    with (run / "config.yaml").open("a") as file:
        file.write("  hf_config_overrides: {rope_theta: 1234, rms_norm_eps: 1e-3}\n")
    config = load_model(source="dcp", path=run).architecture
    assert (config.rope_theta, config.rms_norm_eps) == (1234, 1e-3)


NAME = "model.transformer.blocks.1.ff_out.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({NAME: None}, ["missing: " + NAME, "found 20 tensors, expected the 21"]),
        ({NAME.replace("1", "2"): (64, 176)}, ["not expected: " + NAME.replace("1", "2")]),
        ({NAME: (64, 88)}, [NAME, "(64, 88)", "(64, 176)"]),
        ({NAME: torch.int64}, [NAME, "int64"]),
    ],
)
def test_other_tensors_are_named(run, single, save, change, words):
    """Prevents uninitialised layers, and layers of the checkpoint that are left out silently."""
    state = load_file(single / "model.safetensors")
    for name, value in change.items():
        if value is None:
            del state[name]
        else:
            state[name] = state[name].to(value) if value is torch.int64 else torch.zeros(value)
    save(state)
    refused(run, str(run / "policy" / "weights"), *words)


def test_shard_files_must_be_there_and_whole(run):
    """Prevents a load that fails half way, or reads another save's leftovers."""
    shard = run / "policy" / "weights" / "__1_0.distcp"
    whole = shard.read_bytes()
    (shard.parent / "__2_0.distcp").write_bytes(b"x")
    refused(run, "__2_0.distcp", "does not name")
    (shard.parent / "__2_0.distcp").write_bytes(b"")  # a process that had nothing to save
    load_model(source="dcp", path=run)
    shard.write_bytes(whole[:-100])
    refused(run, str(shard), f"has {len(whole) - 100} bytes", "expects 316381")
    shard.write_bytes(b"\0" * len(whole))
    refused(run, str(shard.parent), "cannot be read")
    shard.unlink()
    refused(run, str(shard), "no such file")


def test_safetensors_shards_must_be_there_and_whole(saved, single, tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(saved / "safetensors", folder)
    shard = folder / "shard-00002-model-00001-of-00001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    refused(folder, str(shard), "half-written", base=single)
    shard.unlink()
    refused(folder, str(folder), "has shape (32,), expected (64,)", base=single)
    save_file(load_file(single / "model.safetensors"), shard)
    refused(folder, str(folder), "two saves", base=single)


def test_folders_that_are_not_finished_checkpoints_are_refused(run, tmp_path):
    weights = run / "policy" / "weights"
    unfinished = run.rename(tmp_path / "tmp_step_7")
    refused(unfinished, "tmp_step_7", "still being written")
    refused(unfinished / "policy" / "weights", "tmp_step_7")
    unfinished.rename(run)
    (weights / ".metadata").rename(weights / "elsewhere")
    refused(run, str(weights), "unfinished", ".metadata")
    (weights / "adapter_model.safetensors").write_bytes(b"")
    refused(run, str(weights), "adapter_model.safetensors", "LoRA")
    shutil.rmtree(weights)
    refused(run, str(run), "no weights there")
    refused(tmp_path / "none", str(tmp_path / "none"), "no such folder")


def test_a_base_that_cannot_be_known_is_asked_for(run, tmp_path):
    (run / "config.yaml").write_text(f"policy: {{model_name: {tmp_path}/gone}}")
    refused(run, "config.yaml", "policy.model_name", "gone", "give base")
    (run / "config.yaml").write_text("policy: {hf_config_overrides: {model_type: llada}}")
    refused(run, "config.yaml: policy.hf_config_overrides", "n_heads is None")
    (run / "config.yaml").write_text("policy: {hf_config_overrides: 3}")
    refused(run, "hf_config_overrides is 3")
    (run / "config.yaml").write_text("{unclosed")
    refused(run, "config.yaml", "yaml")
    for text in ("a: 1", "policy: 3", ""):
        (run / "config.yaml").write_text(text)
        refused(run, "base is not given", str(run))
    (run / "config.yaml").unlink()
    refused(run, "base is not given", str(run))
    refused(run, str(tmp_path), "config.json", base=tmp_path)
