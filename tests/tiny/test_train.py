"""The trainer on a toy size: it learns, resumes exactly, and its folders are complete."""

import json

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from transformers import AutoTokenizer

from llada_exp.models.llada import LLaDA, LLaDAConfig
from llada_exp.tiny import folders, train
from llada_exp.tiny.data import KINDS, BatchMaker
from llada_exp.tiny.muon import orthogonalise
from llada_exp.tiny.tokenizer import EOS, MASK, build_tokenizer

TOY = [
    "--d-model",
    "32",
    "--layers",
    "2",
    "--heads",
    "2",
    "--mlp",
    "64",
    "--batch-tokens",
    "512",
    "--eval-n",
    "0",
    "--decay-from",
    "0.9",
]


def toy(run, *more):
    return train.parse(["--run", str(run), *TOY, *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    train.main(["--run", str(run), "--steps", "12", *TOY])
    return run


def test_loss_falls(tmp_path):
    run = train.Run(toy(tmp_path, "--steps", "200", "--stages", '[[1.1, {"facts": 1}]]'))
    losses = [run.step().loss for _ in range(70)]
    assert sum(losses[-5:]) / 5 < 0.6 * sum(losses[:5]) / 5


def test_resume_gives_the_identical_next_loss(tmp_path):
    first = train.Run(toy(tmp_path, "--steps", "20"))
    for _ in range(5):
        first.step()
    first.save(print)
    second = train.Run(toy(tmp_path, "--steps", "20"))
    assert second.learner.num_steps == 5
    assert second.num_tokens == first.num_tokens
    assert [first.step().loss for _ in range(3)] == [second.step().loss for _ in range(3)]


def test_a_run_that_goes_on_reckons_its_time_by_what_it_does_itself(tmp_path, monkeypatch):
    """Prevents "four minutes to go" of thirty-eight: the share that an earlier process had done was counted
    as done in this one's first second."""
    starts = []

    class Bar(train.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            starts.append((self.initial, self.n))

    monkeypatch.setattr(train, "tqdm", Bar)
    for steps in ("2", "4"):
        assert train.main(["--run", str(tmp_path), "--steps", steps, *TOY]) == 0
    assert starts == [(0, 0), (50, 50)]


def test_resume_of_another_shape_is_refused(finished):
    with pytest.raises(ValueError, match="does not fit"):
        train.Run(train.parse(["--run", str(finished), "--steps", "9", "--d-model", "16", "--layers", "2"]))


def test_a_run_begins_with_the_weights_of_a_model(finished, tmp_path):
    """Prevents a run whose machine is lost, and whose weights are not, from starting over."""
    model = finished / "model"
    run = train.Run(toy(tmp_path / "more", "--steps", "3", "--start", str(model)))
    assert run.learner.num_steps == 0
    before = load_file(model / "model.safetensors")
    assert all(torch.equal(run.learner.params[name], value) for name, value in before.items())
    assert f"from the weights of {model}" in train.plan(run)
    run.step()
    run.save(print)
    again = train.Run(toy(tmp_path / "more", "--steps", "3", "--start", str(model)))
    assert again.learner.num_steps == 1, "once it has a state of its own, that counts"
    with pytest.raises(ValueError, match=r"--start is .*nothing; expected a model folder"):
        train.Run(toy(tmp_path / "other", "--steps", "3", "--start", str(tmp_path / "nothing")))
    with pytest.raises(ValueError, match="does not fit"):
        train.Run(toy(tmp_path / "wide", "--steps", "3", "--start", str(model), "--d-model", "16"))


def test_model_folder_is_complete(finished):
    folder = finished / "model"
    config = LLaDAConfig.from_dict(json.loads((folder / "config.json").read_text()), "toy")
    assert config.max_sequence_length >= 4096
    with torch.device("meta"):
        model = LLaDA(config)
    model.load_state_dict(load_file(folder / "model.safetensors"), assign=True)
    assert all(name.startswith("model.transformer.") for name in model.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids([MASK, EOS]) == [config.mask_token_id, config.eos_token_id]
    assert model.logits(torch.tensor([tokenizer.encode("What is 2 + 3?")])).isfinite().all()


def test_step_folder_is_complete_and_holds_the_model_folders_weights(finished):
    step = finished / "step_12"
    assert json.loads((step / "training_info.json").read_text())["step"] == 12
    assert (step / "config.yaml").exists()
    assert (step / "policy" / "tokenizer" / "tokenizer.json").exists()
    assert (step / "policy" / "weights" / ".metadata").exists()
    weights = load_file(finished / "model" / "model.safetensors")
    state = {f"model.{name}": torch.zeros_like(value) for name, value in weights.items()}
    dcp.load(state, checkpoint_id=str(step / "policy" / "weights"), no_dist=True)
    assert all(torch.equal(state[f"model.{name}"], value) for name, value in weights.items())
    assert not [path for path in finished.iterdir() if path.name.startswith(("tmp_", "old_"))]


def test_old_step_folders_are_pruned(tmp_path):
    for name in ("step_2", "step_10", "step_9", "model"):
        (tmp_path / name).mkdir()
    folders.prune_steps(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "step_10", "step_9"]


def test_steps_and_minutes_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="exclude"):
        toy(tmp_path, "--steps", "1", "--minutes", "1")


@pytest.mark.parametrize("kind", KINDS)
def test_batches_mask_answers_only_and_repeat(kind):
    tokenizer = build_tokenizer()
    maker = BatchMaker(tokenizer, seed=5, tokens_per_batch=2048)
    batch, again = maker.batch(3, {kind: 1.0}), maker.batch(3, {kind: 1.0})
    assert torch.equal(batch.ids, again.ids)
    assert torch.equal(batch.weights, again.weights)
    masked = batch.ids == tokenizer.token_to_id(MASK)
    assert not (batch.weights > 0)[~masked].any()
    assert masked.any(1).all()
    assert torch.equal(batch.ids[~masked], batch.targets[~masked])
    header_end = tokenizer.token_to_id("<|end_header_id|>")
    for row, hidden in zip(batch.targets, masked, strict=True):
        if kind not in ("facts", "lines") and (row == header_end).any():  # a bare text has no header
            assert int((row == header_end).nonzero()[-1]) < int(hidden.nonzero()[0])


@pytest.mark.parametrize("kind", ["heads", "steps", "short", "long"])
def test_something_is_asked_of_every_row(kind):
    """Prevents a run that ends in its fourth minute: a batch of one long row, nothing of which was masked."""
    maker = BatchMaker(build_tokenizer(), 14, 512)
    for number in range(220):  # short: 214 is one such
        batch = maker.batch(number, {kind: 1})
        assert (batch.weights.sum(1) > 0).all()


def test_orthogonalise():
    for shape in ((3, 8, 8), (2, 16, 8), (2, 8, 16)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape), steps=6))
        assert values.min() > 0.5
        assert values.max() < 1.5
