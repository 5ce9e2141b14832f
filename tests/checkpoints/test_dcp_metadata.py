"""`.metadata` is a pickle: what it may say, and that nothing in it runs."""

import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

from llada_exp import load_model
from llada_exp.checkpoints.dcp_metadata import check_cover


def refused(run, *words):
    with pytest.raises(ValueError, match=r".") as caught:
        load_model(source="dcp", path=run)
    for word in words:
        assert word in str(caught.value), f"{word!r} not in: {caught.value}"


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


def test_a_payload_in_a_shard_is_refused_and_did_not_run(run, tmp_path):
    """Prevents the same through a shard file, which torch.load reads."""
    marker = tmp_path / "ran"
    weights = run / "policy" / "weights"
    torch.save(Payload(os.system, f"touch {marker}"), weights / "__9_0.distcp")
    metadata = pickle.loads((weights / ".metadata").read_bytes())  # our own file
    place = next(iter(metadata.storage_data.values()))
    place.relative_path, place.offset = "__9_0.distcp", 0
    place.length = (weights / "__9_0.distcp").stat().st_size
    (weights / ".metadata").write_bytes(pickle.dumps(metadata))
    refused(run, str(weights), "cannot be read")
    assert not marker.exists()
    torch.load(weights / "__9_0.distcp", weights_only=False)
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


def test_byte_entries_are_refused(run, single, save):
    """Prevents torch.load(weights_only=False), which byte entries are read with."""
    state = load_file(single / "model.safetensors") | {"step": 7}
    save(state)
    refused(run, "step", "no tensors")


@pytest.mark.parametrize("content", [b"", b"\x80\x05", b"junk", pickle.dumps({"a": 1}), pickle.dumps(None)])
def test_a_broken_metadata_file_is_named(run, content):
    path = run / "policy" / "weights" / ".metadata"
    path.write_bytes(content)
    refused(run, str(path), "not a readable DCP metadata file")


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
