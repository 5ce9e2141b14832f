"""What stands in the way of a run in its folder, and what its user is advised."""

import itertools
import os

import pytest
from hydra import compose, initialize_config_dir

from llada_exp.runs import status
from llada_exp.runs.claim import Claim, FolderRefused, check_runs_folder, check_sweeps_folder, names
from llada_exp.runs.lock import taking
from llada_exp.settings import conf_dir


def claim(folder, config_hash="hash", resume=False, points=("p",)):
    hashes = {folder / point: config_hash for point in points}
    return Claim(folder, "name", "mine", resume, hashes, lambda place: (place / "row").exists(), lambda: None)


def refusal(one):
    with pytest.raises(FolderRefused) as refused, one.entered():
        pass
    return str(refused.value)


def end(place, config_hash="hash", has_row=True, error=None):
    if error is None:
        with status.recorded(place, config_hash):
            (place / "row").touch() if has_row else None
    else:
        status.failed(place, config_hash, error)


def test_results_are_gone_on_with_only_where_they_are_of_the_same_settings(tmp_path):
    """`name=mine` of one example, then of another: to advise resume=true would mix the two."""
    end(tmp_path / "p")
    assert refusal(claim(tmp_path)).endswith("holds results: resume=true goes on with it")
    assert refusal(claim(tmp_path, "other")).endswith("holds results of other settings: choose another name")
    assert "of other settings" in refusal(claim(tmp_path, points=("q",)))
    with claim(tmp_path, resume=True).entered() as live:
        assert live == {}


def test_a_run_that_measured_nothing_stands_in_nobodys_way(tmp_path):
    end(tmp_path / "p", has_row=False, error="no such folder")
    for one in (claim(tmp_path), claim(tmp_path, "other"), claim(tmp_path, points=("q",))):
        with one.entered():
            pass


def test_a_folder_in_use_is_refused_even_with_resume(tmp_path):
    with taking(tmp_path):
        for resume in (False, True):
            text = refusal(claim(tmp_path, resume=resume))
            assert f"is written by process {os.getpid()} on " in text
            assert text.endswith("wait for its end, or choose another name")


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Sets the lines of squeue; None: it fails."""
    binaries = tmp_path / "bin"
    binaries.mkdir()

    def says(*lines):
        body = "exit 1" if lines == (None,) else "\n".join(f"echo '{line}'" for line in lines)
        (binaries / "squeue").write_text(f"#!/bin/sh\n{body}\n")
        (binaries / "scontrol").write_text("#!/bin/sh\necho JobState=RUNNING\n")
        for path in binaries.iterdir():
            path.chmod(0o755)

    monkeypatch.setenv("PATH", str(binaries), prepend=os.pathsep)
    return says


@pytest.mark.parametrize("begun", [status.WAITING, status.RUNNING, status.INTERRUPTED])
def test_points_of_jobs_that_go_on_are_refused_or_handed_over(begun, queue, tmp_path):
    """They were submitted once more, and measured twice at once. A requeued job's point was interrupted."""
    status.waits(tmp_path / "p", "hash", "12_0")
    path = tmp_path / "p" / status.FILE
    path.write_text(path.read_text().replace('"waiting"', f'"{begun}"'))
    (tmp_path / ".submitit" / "12_0").mkdir(parents=True)
    queue("12_0|PENDING||llada-bench", "13|RUNNING|n1|other")
    text = refusal(claim(tmp_path, "other settings"))
    assert "not over (12_0 pending)" in text
    assert "scancel 12_0" in text
    with claim(tmp_path, resume=True).entered() as live:
        assert live == {"12_0": "PENDING"}
    queue("12_0|CANCELLED||llada-bench")
    with claim(tmp_path, resume=True).entered() as live:
        assert live == {}


def test_a_job_that_was_submitted_and_never_noted_is_seen(queue, tmp_path):
    """The command was killed right after sbatch."""
    (tmp_path / ".submitit" / "12_0").mkdir(parents=True)
    queue("12_0|RUNNING|n1|llada-bench")
    with claim(tmp_path, resume=True).entered() as live:
        assert live == {"12_0": "RUNNING"}


def test_where_slurm_does_not_answer_nothing_is_taken_for_over(queue, tmp_path):
    status.waits(tmp_path / "p", "hash", "12_0")
    queue(None)
    with pytest.raises(ValueError, match="jobs 12_0 may not be over; SLURM does not answer"):
        claim(tmp_path, resume=True).entered().__enter__()
    end(tmp_path / "p")
    with claim(tmp_path, resume=True).entered() as live:
        assert live == {}, "a point that ended asks no queue"


def test_names_after_the_first_are_numbered():
    assert list(itertools.islice(names("2026-01-02_10-11-12"), 3)) == [
        "2026-01-02_10-11-12", "2026-01-02_10-11-12_2", "2026-01-02_10-11-12_3"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "word", "text"),
    [
        (
            check_sweeps_folder,
            "hydra.sweep.subdir=x",
            "hydra.sweep.subdir is 'x'; points' folders are named by",
        ),
        (check_sweeps_folder, "hydra.run.dir=x", "hydra.run.dir is set; it is of a single run"),
        (check_sweeps_folder, "hydra.sweep.dir=x", None),
        (check_runs_folder, "hydra.sweep.dir=x", r"hydra.sweep is set; it is of a sweep \(-m\)"),
        (check_runs_folder, "hydra.run.dir=x", None),
    ],
)
def test_a_folder_of_hydras_that_would_not_be_used_is_refused(check, word, text):
    """It was ignored in silence."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        hydra = compose("bench", overrides=[word], return_hydra_config=True).hydra
    tree = hydra if check is check_sweeps_folder else hydra.overrides.hydra
    if text is None:
        check(tree)
        return
    with pytest.raises(ValueError, match=text):
        check(tree)
