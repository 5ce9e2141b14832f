"""The batch script of a sweep, as a dry run shows it on a machine that has no SLURM."""

from dataclasses import dataclass

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp.jobs import slurm
from llada_exp.jobs.submit import ArrayPlan, await_jobs, launch, script
from llada_exp.settings import conf_dir

VARIABLES = ("ACCOUNT", "PARTITION", "GRES", "MEM", "TIME", "CPUS", "SETUP")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


def plan(*overrides):
    words = ["hydra/launcher=slurm", "hydra.sweep.dir=/sweep", "hydra.job.name=bench", *overrides]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("bench", overrides=words, return_hydra_config=True)
    tree = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
    tree.pop("_target_")
    return ArrayPlan(**tree)


def options(text):
    return {line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")}


def test_the_defaults_ask_for_one_gpu_and_name_no_account():
    told = options(script(plan(), 3))
    assert {
        "gres=gpu:1",
        "mem=64G",
        "time=4:00:00",
        "cpus-per-task=8",
        "array=0-2%3",
        "signal=TERM@120",
    } <= told
    assert not [option for option in told if option.startswith(("account", "partition", "wckey"))]


def test_the_environment_sets_what_differs_from_cluster_to_cluster(monkeypatch):
    values = (
        "lab7",
        "a100",
        "gpu:a100:2",
        "128G",
        "1-00:00:00",
        "16",
        "module load cuda; source env/bin/activate",
    )
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    text = script(plan(), 1)
    assert {"account=lab7", "partition=a100", "gres=gpu:a100:2", "mem=128G", "time=1-00:00:00",
            "cpus-per-task=16"} <= options(text)  # fmt: skip
    assert text.index(values[-1]) < text.index("srun ")
    monkeypatch.setenv("GRES", "")
    assert not [option for option in options(script(plan(), 1)) if option.startswith("gres")]


def test_any_option_of_sbatch_can_be_given_and_the_last_word_is_its():
    told = options(script(plan("+hydra.launcher.sbatch.qos=high", "+hydra.launcher.sbatch.mem=0"), 1))
    assert {"qos=high", "mem=0"} <= told
    assert "mem=64G" not in told


def test_the_task_gets_the_cores_that_the_job_asked_for():
    """srun does not inherit --cpus-per-task since SLURM 22.05."""
    (srun,) = [
        line for line in script(plan("hydra.launcher.cpus_per_task=6"), 1).splitlines() if "srun " in line
    ]
    assert " --cpus-per-task=6 " in srun


def test_without_sbatch_one_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="sbatch is not on the PATH"):
        launch(print, [(["a=1"],)], plan(f"hydra.sweep.dir={tmp_path}"))
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Pace:
    poll_s: float = 0.0
    late_s: float = 0.0
    signal_s: int = 120


def looks_until_done(monkeypatch, looks):
    """How many looks at the queue it takes. looks: at each, SLURM's word (None: it is silent) and the code of
    the result that is there; the last one goes on."""
    left = list(looks)

    def my_jobs():
        if len(left) > 1:
            left.pop(0)
        if left[0][0] is None:
            raise slurm.SlurmError("silent")
        return {"12_3": slurm.Job("12_3", left[0][0], "n1", "llada-bench")}

    left.insert(0, left[0])
    monkeypatch.setattr(slurm, "my_jobs", my_jobs)
    await_jobs(["12_3"], lambda job_id: left[0][1], lambda end: None, Pace())
    return len(looks) - len(left) + 1


def test_what_a_requeued_jobs_first_try_left_is_not_its_result(monkeypatch):
    """A point that failed as its node went, and was measured by its requeued job, was not in the summary: the
    sweep was over by then."""
    waits = [("RUNNING", 1), *[("COMPLETING", 1)] * 3, *[("PENDING", 1)] * 3, ("RUNNING", 1)]
    assert looks_until_done(monkeypatch, [*waits, ("COMPLETED", 0)]) == len(waits) + 1
    assert looks_until_done(monkeypatch, [*waits, ("FAILED", 1), ("FAILED", 1)]) == len(waits) + 1


def test_a_result_counts_where_slurm_is_silent_and_a_good_one_at_once(monkeypatch):
    silent = looks_until_done(monkeypatch, [(None, None)] * 5 + [(None, 1)])
    assert silent == 6
    assert looks_until_done(monkeypatch, [("RUNNING", None), ("RUNNING", 0), ("RUNNING", 0)]) == 2
    assert looks_until_done(monkeypatch, [(None, 0), (None, 0)]) == 1
