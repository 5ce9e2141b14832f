"""The trainer in people's hands: signals, mistakes, and a writer that is killed while it saves."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llada_exp.checkpoints import load_model
from llada_exp.tiny import folders, train
from tests.tiny.test_train import TOY

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


def toy(run, *more):
    return train.main(["--run", str(run), *TOY, *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole")
    assert toy(run, "--steps", "6") == 0
    return run


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_saves_and_the_same_command_goes_on_exactly(
    tmp_path, finished, number, monkeypatch, capsys, request
):
    step = train.Run.step

    def interrupted(run):
        if run.learner.num_steps == 2:
            os.kill(os.getpid(), number)  # amid the third step
        return step(run)

    before = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    outside = signal.signal(number, before)  # whoever runs the tests may ignore it, as nohup does
    request.addfinalizer(lambda: signal.signal(number, outside))
    monkeypatch.setattr(train.Run, "step", interrupted)
    assert toy(tmp_path, "--steps", "6") == 128 + number
    assert signal.getsignal(number) is before
    said = capsys.readouterr()
    assert f"{SIGNALS[number]}: saved at step 3 in {tmp_path}; the same command goes on" in said.out
    assert "Traceback" not in said.err
    assert json.loads((tmp_path / "resume" / "info.json").read_text())["step"] == 3
    monkeypatch.setattr(train.Run, "step", step)
    assert toy(tmp_path, "--steps", "6") == 0
    assert "on from step 3, 3 steps left" in capsys.readouterr().out
    one, other = (load_file(run / "resume" / "state.safetensors") for run in (tmp_path, finished))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_terminal_that_is_gone_does_not_keep_it_from_saving(tmp_path, monkeypatch):
    def gone(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(train.tqdm, "write", gone)
    assert toy(tmp_path, "--steps", "2") == 0
    assert (tmp_path / "step_2").is_dir()


def test_it_says_first_what_it_will_do_and_its_numbers_have_units(tmp_path, capsys):
    assert toy(tmp_path, "--steps", "4") == 0
    first, second, third, *_, shown, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"training [\d.]+ million parameters for 4 steps, from nothing", first)
    assert f"{tmp_path}/resume" in second
    assert re.fullmatch(r"a step takes [\d.]+ s: about [\d.]+ min to go", third)
    assert re.match(
        r"step 4, [\d.]+ min of training, \d+ tokens/s; loss \(share right\): \w+ [\d.]+ \(\d+%\)", shown
    )
    assert last == f"done at step 4; the model: {tmp_path}/model"
    assert toy(tmp_path, "--steps", "4") == 0
    assert "nothing to train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "3", "--minutes", "1"], "--steps and --minutes exclude each other"),
        (["--steps", "0"], "--steps is 0; expected a number from 1"),
        (["--minutes", "nan"], "--minutes is nan; expected a number"),
        (["--minutes", "-1"], "--minutes is -1.0; expected a number"),
        (["--heads", "3"], "--d-model is 32; expected --heads (3) times an even number"),
        (["--micro", "0"], "--micro is 0; expected a number from 1"),
        (["--decay-from", "1"], "--decay-from is 1.0"),
        (["--stages", "3"], "--stages is 3; expected JSON like"),
        (["--stages", '[[0.1, {"short": 1}]]'], "shares of the run that rise to 1"),
        (["--stages", '[[1, {"shorts": 1}]]'], "weights of facts, lines, heads, steps, short, long"),
        (["--run", "a_file"], "--run is a_file; it cannot be written"),
        (["--run", "a_file/b"], "--run is a_file/b; it cannot be written: Not a directory"),
        (["--run", 300 * "n"], "File name too long"),
        (["--out", "a_file"], "--out is a_file, a file; expected a folder"),
        (["--out", "papers"], "--out is papers; it holds something else than a model"),
        (["--run", "grpo"], "--run is grpo; its step_7 is of another trainer"),
    ],
)
def test_a_mistake_is_one_line_and_touches_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("mine")
    Path("papers").mkdir()
    Path("papers/thesis.txt").write_text("mine")
    Path("grpo/step_7").mkdir(parents=True)
    Path("grpo/step_7/training_info.json").write_text('{"step": 7}')
    assert toy("run", *(["--steps", "1"] if "--minutes" not in words else []), *words) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert Path("a_file").read_text() == Path("papers/thesis.txt").read_text() == "mine"
    assert Path("grpo/step_7/training_info.json").is_file()


def test_another_training_in_the_same_folder_is_refused(tmp_path, capsys):
    with folders.alone_in(tmp_path):
        assert toy(tmp_path, "--steps", "1") == 2
    assert "another training writes there now" in capsys.readouterr().err


def test_a_run_goes_on_with_its_own_settings_only(finished, capsys):
    assert toy(finished, "--steps", "8", "--seed", "4") == 2
    assert "--seed is 4, which does not fit the run" in capsys.readouterr().err


class Killed(BaseException):
    """As kill -9: nothing after it runs."""


def test_killed_at_any_moment_of_a_save_a_whole_one_is_left(tmp_path, monkeypatch):
    """At every rename and removal, and twice in a row."""
    rename, rmtree = Path.rename, folders.shutil.rmtree
    count = 0

    def deadly(function):
        def one(*words, **options):
            nonlocal count
            count -= 1
            if count < 0:
                raise Killed
            return function(*words, **options)

        return one

    def save(value, after):
        nonlocal count
        count = after
        try:
            folders.write_resume(tmp_path, {"x": torch.tensor([value])}, {"step": value})
        except Killed:
            return False
        return True

    monkeypatch.setattr(Path, "rename", deadly(rename))
    monkeypatch.setattr(folders.shutil, "rmtree", deadly(rmtree))
    assert save(0, 99)
    saved, after = 0, 0
    for value in range(1, 99):
        whole = save(value, after // 2)
        count = 99
        tensors, info = folders.read_resume(tmp_path)
        assert int(tensors["x"]) == info["step"], "not half of each"
        assert info["step"] == value or (not whole and info["step"] == saved)
        saved = info["step"]
        if whole:
            break
        after += 1
    assert after >= 6, "it was killed at several places"


def test_what_is_written_is_held_against_its_sums(finished):
    load_model("dcp", finished / "step_6", finished / "model")
    for folder in (finished / "model", finished / "step_6"):
        listed = {line.split("  ./")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
        files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        assert listed == files - {"SHA256SUMS"}
    weights = finished / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="changed or damaged"):
        load_model("hf", finished / "model")
