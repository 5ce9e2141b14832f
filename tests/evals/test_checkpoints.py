"""A training run's checkpoints: found in order, damaged ones named, each served by its overrides."""

import json
import shutil

import pytest
from hydra import compose, initialize_config_dir

from llada_exp.checkpoints import load_model
from llada_exp.evals.checkpoints import Checkpoint, find, overrides, point_latest
from llada_exp.offline import Engine
from llada_exp.scoring import decide_response
from llada_exp.settings import conf_dir, validate
from llada_exp.tiny.tasks import held_out
from llada_exp.types import DecodingParams
from tests.evals.training_runs import DAMAGES, damage


def refused(words, *arguments, **named):
    with pytest.raises(ValueError, match=r".") as caught:
        find(*arguments, **named)
    for word in words:
        assert word in str(caught.value), f"{word!r} not in: {caught.value}"


def folders(run, *names):
    for name in names:
        (run / name).mkdir(parents=True)
    return run


def test_the_trainers_own_folders_are_found_and_whole(trained_run):
    """Prevents the trainer's model/ and resume/ from being taken for steps, and a whole step refused."""
    found = find(trained_run)
    assert [(c.step, c.name, c.kind, c.problem) for c in found] == [
        (n, f"toy-step_{n}", "dcp", None) for n in (1, 2, 3)
    ]
    assert [c.path for c in found] == [trained_run / f"step_{n}" for n in (1, 2, 3)]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_step_says_why_and_the_others_stand(own_run, how):
    """Prevents a sweep that ends, or scores garbage, because of one broken folder."""
    damage(own_run / "step_2", how)
    first, second, third = find(own_run)
    assert first.problem is third.problem is None
    assert second.problem is not None
    assert str(own_run / "step_2") in second.problem
    with pytest.raises(ValueError, match=r".") as caught:
        load_model("dcp", second.path)
    assert str(caught.value) == second.problem


def test_steps_are_ordered_as_numbers(tmp_path):
    run = folders(tmp_path, "step_100", "step_20", "step_3")
    assert [c.step for c in find(run)] == [3, 20, 100]


def test_only_finished_folders_of_the_patterns_form_count(tmp_path):
    """Prevents a half-written step, a file, a backup or a link from being evaluated as a step."""
    run = folders(tmp_path, "step_1", "tmp_step_2", "step_3_old", "step_4.bak2", "step_final")
    (run / "step_5").write_text("a file")
    (run / "step_6").symlink_to("step_1")
    (run / "latest").symlink_to("step_1")
    assert [c.path.name for c in find(run)] == ["step_1"]
    assert [c.path.name for c in find(run, "*step_*")] == ["step_1"]


@pytest.mark.parametrize(
    ("pattern", "name", "called"),
    [
        ("checkpoint-*", "checkpoint-70", "run-checkpoint-70"),
        ("*/step_*", "v2/step_70", "run-v2-step_70"),
        ("step_*/policy/weights", "step_70/policy/weights", "run-step_70-policy-weights"),
        ("epoch1_*", "epoch1_70", "run-epoch1_70"),
        ("**/step**", "v2/step70", "run-v2-step70"),
        ("[x]_*", "[x]_70", "run-[x]_70"),
    ],
)
def test_the_last_star_is_the_step(tmp_path, pattern, name, called):
    """Prevents another number of a name from being taken for the step."""
    (found,) = find(folders(tmp_path / "run", name), pattern)
    assert (found.step, found.name, found.path) == (70, called, tmp_path / "run" / name)


@pytest.mark.parametrize("pattern", ["step_7", "", "/step_*", "~/step_*", "../step_*"])
def test_a_pattern_without_a_place_for_the_step_is_refused(tmp_path, pattern):
    refused(["checkpoint_pattern is", repr(pattern), "expected"], folders(tmp_path, "step_7"), pattern)


def test_two_folders_of_one_step_are_refused(tmp_path):
    """Prevents one step's score from standing for another folder."""
    run = folders(tmp_path, "a/step_7", "b/step_7", "b/step_8")
    refused(["a/step_7", "b/step_7", "both step 7"], run, "*/step_*")
    refused(["step_07", "step_7", "both step 7"], folders(tmp_path / "padded", "step_07", "step_7"))


def test_steps_choose_and_a_missing_one_is_named(trained_run):
    assert [c.step for c in find(trained_run, steps=[3, 1])] == [1, 3]
    refused(["checkpoint_steps holds 7, 9;", "has 1, 2, 3", "step_*"], trained_run, steps=[9, 2, 7])


def test_a_folder_without_checkpoints_says_what_is_there(tmp_path, trained_run):
    refused(["checkpoints is", "no such folder"], tmp_path / "none")
    refused(["step_*", "but: nothing"], tmp_path)
    refused(["'step-*'", "but: model/, resume/, step_1/"], trained_run, "step-*")
    for path in (
        trained_run / "step_2",
        trained_run / "step_2" / "policy" / "weights",
        trained_run / "model",
    ):
        refused([str(path), "one checkpoint", repr(str(path.parent)), "model=dcp"], path)


def test_hugging_face_folders_are_found_and_inspected(trained_run, tmp_path):
    """The form that other trainers write."""
    for step in (10, 20):
        shutil.copytree(trained_run / "model", tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-20" / "model.safetensors").unlink()
    whole, broken = find(tmp_path, "checkpoint-*")
    assert (whole.kind, whole.problem) == (broken.kind, None) == ("hf", None)
    assert "expected model.safetensors" in broken.problem
    assert "takes none" in find(tmp_path, "checkpoint-*", base="GSAI-ML/LLaDA-8B-Base")[0].problem


def test_overrides_compose_to_the_checkpoint_whatever_its_name_holds(trained_run, tmp_path):
    """Prevents a path that Hydra's grammar cuts or reads as a list."""
    run = tmp_path / "it's, a [run]=x\\"
    shutil.copytree(trained_run / "step_1", run / "step_1")
    (found,) = find(run)
    assert found.problem is None
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        settings = validate(compose("serve", overrides=overrides(found, base="/b, c")))
        plain = validate(compose("serve", overrides=overrides(found)))
    assert vars(settings.model) == {
        "source": "dcp",
        "path": str(run / "step_1"),
        "base": "/b, c",
        "name": "it's, a [run]=x\\-step_1",
        "settings": {},
    }
    assert plain.model.base is None


def test_what_is_found_loads_and_later_steps_of_the_learning_run_know_more(learning_run):
    """Prevents sweeps of the tests beside it from comparing noise with noise."""
    problems = held_out("short", 12)
    right = []
    for checkpoint in find(learning_run, steps=[10, 30]):
        engine = Engine(load_model(checkpoint.kind, checkpoint.path, dtype="float32"), batch_size=12)
        chats = [[{"role": "user", "content": problem.question}] for problem in problems]
        outputs = engine.chat(chats, DecodingParams(max_tokens=64, rule="threshold", threshold=0.9))
        right.append(
            sum(bool(decide_response(o.text, p.answer)) for p, o in zip(problems, outputs, strict=True))
        )
    assert right[0] + 4 <= right[1]


def test_latest_moves_in_one_step_and_never_fails(tmp_path, capsys):
    """Prevents a dangling pointer, a link that only works where it was made, and a lost evaluation."""
    for name in ("a", "b"):
        folders(tmp_path, name)
        point_latest(tmp_path, name)
        (tmp_path / name / "score").write_text(name)
    assert (tmp_path / "latest" / "score").read_text() == "b"
    assert str((tmp_path / "latest").readlink()) == "b"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "latest"]
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").mkdir()
    point_latest(tmp_path, "a")
    assert "warning" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "latest"]


def test_a_checkpoint_is_plain_data(trained_run):
    """Jobs on other machines are told of it in a configuration."""
    (one,) = find(trained_run, steps=[2])
    assert json.loads(json.dumps(vars(one), default=str))["path"] == str(one.path)
    assert one == Checkpoint(2, trained_run / "step_2", "toy-step_2", "dcp", None)
