"""Inspection says what a load would, and reads no weight; sums catch what it cannot see."""

import hashlib
import json
import shutil
import subprocess

import pytest

from llada_exp import load_model
from llada_exp.checkpoints.inspect import inspect, kind_of


def refused(words, path, **named):
    """By inspection and by the load alike."""
    with pytest.raises(ValueError, match=r".") as caught:
        inspect(path, **named)
    for word in words:
        assert word in str(caught.value), f"{word!r} not in: {caught.value}"
    return str(caught.value)


def loading(path, base=None):
    with pytest.raises(ValueError, match=r".") as caught:
        load_model(kind_of(path), path, base)
    return str(caught.value)


def write_sums(folder):
    command = "find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS"  # as the documents say
    subprocess.run(command, shell=True, cwd=folder, check=True)
    return folder / "SHA256SUMS"


def flip(path):
    """One bit, in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("form", ["v1", "v2", "safetensors"])
def test_what_loads_is_whole(saved, single, form):
    inspect(saved / form, base=single)
    inspect(single)


@pytest.mark.parametrize("form", ["v1", "v2", "safetensors"])
def test_shards_beside_a_config_are_no_hugging_face_folder(saved, single, tmp_path, form):
    """Prevents a whole folder, that the other loader reads, from being called damaged."""
    folder = shutil.copytree(saved / form, tmp_path / "step_7")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(single / name, folder)
    assert kind_of(folder) == "dcp"
    inspect(folder)
    load_model("dcp", folder)


@pytest.mark.parametrize("inner", ["", "policy", "policy/weights"])
def test_every_level_of_a_run_is_inspected(run, inner):
    assert kind_of(run / inner) == "dcp"
    inspect(run / inner)
    (run / "policy" / "weights" / "__0_0.distcp").unlink()
    refused(["__0_0.distcp", "no such file"], run / inner)


def test_no_weight_is_read(run, copy_of):
    """Prevents a sweep's plan that reads every checkpoint; and says what inspection cannot know."""
    shard = run / "policy" / "weights" / "__1_0.distcp"
    shard.write_bytes(b"\0" * shard.stat().st_size)
    inspect(run)
    assert "cannot be read" in loading(run)


BREAKAGES = {
    "truncated": lambda step: truncate(step / "policy" / "weights" / "__1_0.distcp"),
    "no shard": lambda step: (step / "policy" / "weights" / "__1_0.distcp").unlink(),
    "another save's": lambda step: (step / "policy" / "weights" / "__7_0.distcp").write_bytes(b"x"),
    "no metadata": lambda step: (step / "policy" / "weights" / ".metadata").unlink(),
    "half metadata": lambda step: truncate(step / "policy" / "weights" / ".metadata"),
    "no weights": lambda step: shutil.rmtree(step / "policy" / "weights"),
    "no config": lambda step: (step / "config.yaml").unlink(),
    "half tokenizer": lambda step: truncate(step / "policy" / "tokenizer" / "tokenizer.json"),
}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("how", BREAKAGES)
def test_a_broken_step_is_refused_in_the_loads_own_words(run, how):
    """Prevents an inspection that passes what the job then cannot load."""
    BREAKAGES[how](run)
    assert refused([str(run)], run) == loading(run)


def test_the_tokenizer_must_be_there(run, single, tmp_path):
    """Prevents a step whose tokenizer was not copied from passing (where its base has none either)."""
    shutil.copy(single / "config.json", run / "config.json")
    inspect(run)
    shutil.rmtree(run / "policy" / "tokenizer")
    assert refused(["tokenizer.json"], run) == loading(run)


def test_a_base_is_looked_into(run, tmp_path):
    assert refused([str(tmp_path / "gone")], run, base=str(tmp_path / "gone")) == loading(
        run, str(tmp_path / "gone")
    )


@pytest.mark.parametrize("which", ["a", "b"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "weights"])
def test_hugging_face_folders_too(copy_of, which, name):
    folder = copy_of(which)
    assert kind_of(folder) == "hf"
    inspect(folder)
    path = sorted(folder.glob("*.safetensors"))[-1] if name == "weights" else folder / name
    truncate(path)
    message = refused([str(folder)], folder)
    assert message == loading(folder)
    path.unlink()
    if name != "config.json":  # without one, nothing says which kind of folder it was
        assert refused([str(folder)], folder) == loading(folder)


def test_a_hugging_face_folder_of_other_tensors_is_refused(copy_of):
    """Prevents layers that nobody trained: a config.json of another depth is a valid file."""
    folder = copy_of("a")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_layers": config["n_layers"] + 1}))
    assert refused(["missing: model.transformer.blocks."], folder) == loading(folder)


def test_a_hugging_face_folder_takes_no_base(single):
    """Prevents a tokenizer of the base where the checkpoint has its own."""
    refused(["base is", "takes none"], single, base=str(single))


def test_a_base_at_the_hub_costs_no_download_of_its_weights(run, monkeypatch, single):
    """Prevents 16 GB fetched to read a config.json."""
    asked = []

    def fetched(source, allow_patterns):
        asked.append((source, allow_patterns))
        return str(single)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    inspect(run, base="some/base")
    (run / "config.yaml").write_text("policy: {model_name: some/other}\n")
    inspect(run)
    assert [source for source, _ in asked] == ["some/base", "some/other"]
    assert not any("safetensors" in pattern for _, patterns in asked for pattern in patterns)


@pytest.mark.parametrize("place", [".", "policy/weights"])
def test_a_flipped_bit_is_caught_by_sums(run, place):
    """Prevents a score of weights that were not trained: nothing else sees a flipped bit."""
    write_sums(run / place)
    load_model("dcp", run)
    shard = run / "policy" / "weights" / "__0_0.distcp"
    flip(shard)
    message = loading(run)
    for word in (str(shard), "SHA-256", hashlib.sha256(shard.read_bytes()).hexdigest()[:12]):
        assert word in message
    inspect(run)  # which reads no weight
    (run / place / "SHA256SUMS").unlink()
    load_model("dcp", run)  # the test could fail: without sums the flip is silent


def test_sums_of_a_hugging_face_folder(copy_of):
    folder = copy_of("b")
    write_sums(folder)
    load_model("hf", folder)
    flip(sorted(folder.glob("*.safetensors"))[0])
    assert "SHA-256" in loading(folder)


def test_sums_must_list_the_weights_and_what_they_list_must_be_there(run):
    """Prevents a list of other files that looks like safety."""
    sums = write_sums(run)
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if "__1_0" not in line))
    assert "SHA256SUMS: does not list __1_0.distcp" in loading(run)
    sums.write_text("".join([*lines, f"{'0' * 64}  ./policy/optimizer/x.distcp\n"]))
    load_model("dcp", run)  # the optimizer is not loaded, and often removed
    (run / "config.yaml").rename(run / "elsewhere")
    (run / "config.json").write_bytes((run / "elsewhere").read_bytes())
    sums.write_text("".join([*lines, f"{'0' * 64}  notes.txt\n"]))
    (run / "config.json").rename(run / "config.yaml")
    assert "no such files: notes.txt; SHA256SUMS" in loading(run)


@pytest.mark.parametrize("line", ["x", "0" * 64 + "  /etc/passwd", "0" * 64 + "  ../x", "0" * 63 + "  a", ""])
def test_a_malformed_line_is_named(run, line):
    sums = write_sums(run)
    with sums.open("a") as file:
        file.write(line + "\n")
    message = loading(run)
    assert f"{sums}, line" in message
    assert f"{line!r}; expected what sha256sum writes" in message
