"""Two sets of weights in one folder are refused; what cannot be used is named, with what to do."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file, save_file

from llada_exp import load_model
from llada_exp.checkpoints.explain import listed
from llada_exp.serve import plan
from llada_exp.settings import conf_dir

SHARD, INDEX, WHOLE = "model-00002-of-00003.safetensors", "model.safetensors.index.json", "model.safetensors"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 16060522904\n" % (b"a" * 64)


def refused(source: str, folder: Path, *words: str, **named: object) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        load_model(source=source, path=folder, **named)
    for word in words:
        assert word in str(caught.value), f"{word!r} not in: {caught.value}"
    return str(caught.value)


def merged(folder: Path) -> dict[str, torch.Tensor]:
    return {n: t for file in folder.glob("model-*.safetensors") for n, t in load_file(file).items()}


def test_a_single_file_beside_an_index_and_its_shards_is_refused(copy_of):
    """Prevents a model that nobody meant from being served: loaders differ in which one they take."""
    folder = copy_of("b")
    save_file({name: torch.randn_like(t) for name, t in merged(folder).items()}, folder / WHOLE)
    words = ["two sets of weights", WHOLE, INDEX, "model-00001-of-00003.safetensors", "Move"]
    refused("hf", folder, str(folder), *words)
    refused("dcp", folder, str(folder), *words)
    (folder / WHOLE).unlink()
    load_model("hf", folder)


def test_a_single_file_that_its_index_names_is_one_set(copy_of):
    folder = copy_of("b")
    tensors = merged(folder)
    for file in folder.glob("model-*.safetensors"):
        file.unlink()
    save_file(tensors, folder / WHOLE)
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(tensors, WHOLE)}))
    assert load_model("hf", folder).shape.n_layers
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(list(tensors)[1:], WHOLE)}))
    refused("hf", folder, "not expected: ", INDEX)


@pytest.mark.parametrize("stray", ["model-00001-of-00002.safetensors", "model-00004-of-00003.safetensors"])
@pytest.mark.parametrize("which", ["a", "b"])
def test_shards_of_another_save_are_refused(copy_of, which, stray):
    """Prevents an index (or a single file) that an interrupted save left as it was."""
    folder = copy_of(which)
    save_file({"x": torch.zeros(1)}, folder / stray)
    refused("hf", folder, "two sets of weights", stray)


def test_files_of_other_names_are_no_second_set(copy_of):
    folder = copy_of("b")
    save_file({"x": torch.zeros(1)}, folder / "expected.safetensors")
    load_model("hf", folder)


def test_a_tensor_in_two_shards_is_refused(copy_of):
    folder = copy_of("b")
    shards = sorted(folder.glob("model-*.safetensors"))
    first, second = load_file(shards[0]), load_file(shards[1])
    save_file({**second, next(iter(first)): first[next(iter(first))]}, shards[1])
    refused("hf", folder, str(shards[1]), "not expected: " + next(iter(first)))


@pytest.mark.parametrize("name", [WHOLE, INDEX])
def test_dcp_files_beside_hugging_faces_are_refused(run, single, name):
    weights = run / "policy" / "weights"
    shutil.copy(single / WHOLE, weights / name)
    refused("dcp", run, str(weights), "two sets of weights", name, ".metadata")
    shutil.copy(single / "config.json", weights)
    shutil.copy(single / "tokenizer.json", weights)
    refused("hf", weights, "two sets of weights", name, ".distcp")


def test_weights_in_two_places_of_a_step_are_refused(run, single):
    shutil.copytree(run / "policy" / "weights", run / "weights")
    refused("dcp", run, "two sets of weights", str(run / "policy" / "weights"), str(run / "weights"))


def test_an_index_whose_files_are_missing_says_how_many(copy_of):
    folder = copy_of("b")
    for file in sorted(folder.glob("model-*.safetensors"))[1:]:
        file.unlink()
    refused("hf", folder, str(folder / SHARD), "no such file", "2 of its 3 files are missing")
    (folder / INDEX).unlink()
    refused("hf", folder, str(folder / INDEX), "no such file", "model-00001-of-00003.safetensors: copy it")


def broken(path: Path, how: str) -> None:
    whole = path.read_bytes()
    path.unlink()
    if how == "lfs":
        path.write_bytes(LFS)
    elif how == "empty":
        path.touch()
    elif how == "page":
        path.write_bytes(b"<!DOCTYPE html>\n<html>")
    elif how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("../../blobs/3f2a")
    elif how == "half":
        path.write_bytes(whole[: len(whole) // 2])


BROKEN = {"lfs": "git lfs pull", "empty": "empty", "page": "a web page",
          "folder": "a folder; expected", "link": "a link to ../../blobs/3f2a, where nothing is"}  # fmt: skip


@pytest.mark.parametrize("name", [WHOLE, "config.json", "tokenizer.json"])
@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_is_none_is_named_with_what_helps(copy_of, name, how):
    """Prevents `half-written?: header too large` for a pointer, and `Expecting value` for a link."""
    folder = copy_of("a")
    broken(folder / name, how)
    refused("hf", folder, str(folder / name), BROKEN[how])


@pytest.mark.parametrize("how", ["lfs", "empty", "link"])
@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
def test_files_of_a_dcp_folder_too(run, name, how):
    path = run / "policy" / "weights" / name
    broken(path, how)
    words = {"link": "no weights there" if name == ".metadata" else BROKEN["link"]}
    if (name, how) == (".metadata", "link"):
        words = {"link": "no .metadata"}
    refused("dcp", run, words.get(how, BROKEN[how]))


def test_a_truncated_file_says_how_much_is_missing(copy_of):
    folder = copy_of("a")
    size = (folder / WHOLE).stat().st_size
    os.truncate(folder / WHOLE, size - 100)
    refused("hf", folder, "truncated (half-written?)", f"{size - 100} bytes of {size}")


def test_permission_denied_is_said(copy_of, monkeypatch):
    folder = copy_of("a")
    path = folder / "config.json"
    monkeypatch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "denied")))
    monkeypatch.setattr(Path, "read_text", Path.open)
    refused("hf", folder, str(path), "permission denied", f"chmod u+r {path}")


@pytest.mark.parametrize("source", ["dcp", "hf"])
def test_a_folder_of_steps_names_the_newest_by_its_number(run, tmp_path, source):
    """Prevents step_9 from standing behind step_10."""
    for name in ("step_9", "step_10"):
        shutil.copytree(run, tmp_path / name)
    (tmp_path / "tmp_step_11").mkdir()
    (tmp_path / "latest").symlink_to("step_9")
    words = ["3 steps (step_7, step_9, step_10)", f"the newest is model=dcp model.path={tmp_path}/step_10"]
    refused(source, tmp_path, *words)


def test_a_dcp_step_under_the_other_source_says_which(run):
    refused("hf", run, f"model=dcp model.path={run}")


def test_a_consolidated_folder_is_named(single, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(single, folder / "consolidated", ignore=shutil.ignore_patterns("expected.*"))
    refused("hf", folder, f"model=hf model.path={folder / 'consolidated'}")
    save_file({"x": torch.zeros(1)}, folder / "shard-00001-model-00001-of-00001.safetensors")
    refused("dcp", folder, f"model=hf model.path={folder / 'consolidated'}", base=single)


def test_shards_without_sharding_headers_are_named(saved, single, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"x": torch.zeros(1)}, folder / "shard-00001-model-00001-of-00001.safetensors")
    refused("dcp", folder, "DCP_SHARDING_INFO", INDEX, base=single)
    shutil.rmtree(folder)
    shutil.copytree(saved / "safetensors", folder)
    save_file({"x": torch.zeros(1)}, folder / "shard-00009-model-00001-of-00001.safetensors")
    refused("dcp", folder, "shard-00009", "two saves", base=single)


def test_paths_that_are_no_folder(copy_of, tmp_path):
    folder = copy_of("a")
    for source in ("hf", "dcp"):
        refused(source, folder / WHOLE, "is a file", f"the folder that holds it: {folder}")
        refused(source, tmp_path / "A", "no such folder", f"{tmp_path} holds a")
        (tmp_path / "link").symlink_to("gone")
        refused(source, tmp_path / "link", "a link to gone, where nothing is")
        (tmp_path / "link").unlink()
        (tmp_path / "void").mkdir(exist_ok=True)
        refused(source, tmp_path / "void", f"{tmp_path / 'void'} is empty")


@pytest.mark.parametrize("how", ["missing", "half", "lfs", "two"])
def test_the_plan_looks_through_the_weights(copy_of, how, capsys):
    """Prevents a check before the start that passes what then does not load."""
    folder = copy_of("a")
    cfg = composed_config("model=hf", f"model.path={folder}", "model.name=x")
    assert plan(cfg) == 0
    assert f"tensors, whole by their headers, in {folder}" in unfolded(capsys.readouterr().out)
    if how == "missing":
        (folder / WHOLE).unlink()
    elif how == "two":
        (folder / INDEX).write_text(json.dumps({"weight_map": {"x": "model-00001-of-00001.safetensors"}}))
    else:
        broken(folder / WHOLE, how)
    with pytest.raises(ValueError, match=str(folder)):
        plan(cfg)


def test_the_plan_of_a_run_and_of_a_hub_id(run, monkeypatch, single, capsys):
    cfg = composed_config("model=dcp", f"model.path={run}", "model.name=x")
    assert plan(cfg) == 0
    (run / "policy" / "weights" / "__0_0.distcp").unlink()
    with pytest.raises(ValueError, match="no such file"):
        plan(cfg)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(single))
    assert plan(composed_config("model=hf", "model.path=some/model", "model.name=x")) == 0
    fetched = "some/model is fetched from the hub when the server starts"
    assert fetched in unfolded(capsys.readouterr().out)


def unfolded(text):
    """A plan's lines are folded to the terminal, wherever the folder's name is long."""
    return " ".join(text.split())


def composed_config(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("serve", overrides=list(overrides))


def test_names_are_sorted_by_their_numbers():
    assert listed(["step_10", "step_9", "b", "step_100"], 3) == "b, step_9, step_10 and 1 more"
