"""DCP folders: saved by two processes, equal to their Hugging Face twin, and refused by name."""

import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from llada_exp import load_model
from llada_exp.checkpoints.dcp_metadata import check_cover, read_metadata

HERE = Path(__file__).parent
IDS = torch.arange(40)[None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What two FSDP2 processes saved, in each format; not to be written to."""
    out = tmp_path_factory.mktemp("saved")
    twin = HERE.parent / "reference" / "llada-random-a"
    subprocess.run([sys.executable, str(HERE / "save_sharded.py"), str(twin), str(out)], check=True)
    return out


@pytest.fixture
def run(saved, single, tmp_path):
    """A training run's step_7 of the first format, without a config of its own; may be broken."""
    step = tmp_path / "step_7"
    shutil.copytree(saved / "v1", step / "policy" / "weights")
    (step / "policy" / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(single / name, step / "policy" / "tokenizer")
    (step / "config.yaml").write_text(f"policy:\n  model_name: {single}\n")
    return step


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
    assert not any(p.requires_grad for p in loaded.model.parameters())
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


# --- .metadata is a pickle ---------------------------------------------------------------------


class Payload:
    """Runs when unpickled: writes a marker file."""

    def __init__(self, call, *arguments):
        self.reduced = (call, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("how", ["root", "storage_meta", "dtype", "key"])
def test_a_payload_in_the_metadata_is_refused_and_did_not_run(run, how, tmp_path):
    """Prevents a downloaded checkpoint from running commands, wherever in the pickle they stand."""
    marker = tmp_path / "ran"
    payload = Payload(os.system, f"touch {marker}")
    path = run / "policy" / "weights" / ".metadata"
    metadata = pickle.loads(path.read_bytes())  # our own file
    if how == "root":
        metadata = payload
    elif how == "storage_meta":
        metadata.storage_meta = payload
    elif how == "dtype":
        next(iter(metadata.state_dict_metadata.values())).properties.dtype = payload
    else:
        metadata.planner_data = {"x": Payload(exec, f"open({str(marker)!r}, 'w')")}
    path.write_bytes(pickle.dumps(metadata))
    refused(run, str(path), "refused", "builtins.exec" if how == "key" else "posix.system")
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists(), "the payload was harmless by mistake: this test could not fail"


def test_torch_never_reads_the_pickle_itself(run, monkeypatch):
    """Prevents a check of one reading and a load of another."""

    def forbidden(*args, **kwargs):
        raise AssertionError("unpickled by torch")

    monkeypatch.setattr(pickle, "load", forbidden)
    monkeypatch.setattr(pickle, "loads", forbidden)
    load_model(source="dcp", path=run)


@pytest.mark.parametrize("name", [b"pathlib\nPosixPath", b"torch.distributed.checkpoint.metadata\nMetadata"])
def test_names_that_are_allowed_cannot_change_the_process(run, name):
    """Prevents a pickle from setting attributes of classes that the process goes on using: a state
    (None, {name: value}) on a class does that, and torch's own reading would."""
    path = run / "policy" / "weights" / ".metadata"
    path.write_bytes(b"\x80\x02c" + name + b"\nN}U\x06markedK\x01s\x86b.")
    refused(run, str(path))
    target = Path("x").__class__ if b"pathlib" in name else dcp.metadata.Metadata
    assert not hasattr(target, "marked")
    pickle.loads(path.read_bytes())
    assert hasattr(target, "marked"), "the pickle was harmless by mistake: this test could not fail"
    del target.marked


def test_byte_entries_are_refused(run, single):
    """Prevents torch.load(weights_only=False), which byte entries are read with."""
    state = load_file(single / "model.safetensors") | {"step": 7}
    save(state, run)
    refused(run, "step", "no tensors")


@pytest.mark.parametrize("content", [b"", b"\x80\x05", b"junk", pickle.dumps({"a": 1}), pickle.dumps(None)])
def test_a_broken_metadata_file_is_named(run, content):
    path = run / "policy" / "weights" / ".metadata"
    path.write_bytes(content)
    refused(run, str(path), "not a readable DCP metadata file")


# --- what does not fit ---------------------------------------------------------------------------


def save(state, run):
    """Replace the run's weights by `state`, saved by one process."""
    folder = run / "policy" / "weights"
    shutil.rmtree(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(state, checkpoint_id=folder, no_dist=True)


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
def test_other_tensors_are_named(run, single, change, words):
    """Prevents uninitialised layers, and layers of the checkpoint that are left out silently."""
    state = load_file(single / "model.safetensors")
    for name, value in change.items():
        if value is None:
            del state[name]
        else:
            state[name] = state[name].to(value) if value is torch.int64 else torch.zeros(value)
    save(state, run)
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
    refused(folder, str(folder), "exactly once", base=single)


@pytest.mark.parametrize(
    "chunks",
    [
        [((0, 0), (2, 4))],
        [((0, 0), (2, 4)), ((1, 0), (2, 4))],
        [((0, 0), (2, 4)), ((2, 0), (3, 4))],
        [((0, 0), (4, 4)), ((0, 0), (4, 4))],
        [((0,), (16,))],
        [],
    ],
)
def test_chunks_must_cover_their_tensor_once(chunks):
    """Prevents memory that nothing was read into."""
    with pytest.raises(ValueError, match="chunks of w do not cover"):
        check_cover(Path("f"), "w", (4, 4), chunks)
    check_cover(Path("f"), "w", (4, 4), [((0, 0), (4, 1)), ((0, 1), (4, 3)), ((4, 0), (0, 4))])


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
    (run / "config.yaml").write_text("{unclosed")
    refused(run, "config.yaml", "yaml")
    for text in ("a: 1", "policy: 3", ""):
        (run / "config.yaml").write_text(text)
        refused(run, "base is not given", str(run))
    (run / "config.yaml").unlink()
    refused(run, "base is not given", str(run))
    refused(run, str(tmp_path), "config.json", base=tmp_path)
