"""`python -m llada_exp.jobs` against a queue that says what a test needs it to say."""

import json

import pytest

from llada_exp.jobs import operate, running_server, slurm
from llada_exp.jobs.__main__ import main
from llada_exp.jobs.local import log_end
from tests.server.conftest import FAKE


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Sets what squeue prints; None: it fails. Nothing else of SLURM is on the PATH."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    monkeypatch.setenv("PATH", str(binaries))

    def says(*lines):
        down = "echo 'slurm is down' >&2; exit 1"
        body = down if lines == (None,) else "\n".join(f"echo '{line}'" for line in lines)
        (binaries / "squeue").write_text(f"#!/bin/sh\n{body}\n")
        (binaries / "squeue").chmod(0o755)

    says()
    return says


@pytest.fixture(scope="module")
def fake():
    with running_server(["batch_size=4"], command=FAKE, start_timeout_s=60) as handle:
        yield handle


@pytest.fixture
def place(tmp_path):
    """A folder with one endpoint, of job 12, and its key."""
    folder = tmp_path / "endpoints"
    folder.mkdir()
    info = {
        "job_id": "12",
        "instance_id": "x",
        "status": "ready",
        "url": "http://127.0.0.1:9",
        "node": "n1",
        "model": "m",
    }
    (folder / "12.json").write_text(json.dumps(info))
    (folder / "12.key").write_text("sesame\n")
    return folder


def jobs(place, capsys, *words):
    code = main(["--folder", str(place), *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_another_server_on_its_old_port_is_not_taken_for_it(place, queue, fake, capsys):
    told = json.loads((place / "12.json").read_text())
    (place / "12.json").write_text(json.dumps(told | {"url": fake.url}))
    queue("12|RUNNING|n1|llada-serve")
    code, out, _ = jobs(place, capsys, "list")
    assert (code, "another server" in out) == (1, True)
    (place / "12.json").write_text(
        json.dumps(told | {"url": fake.url, "instance_id": fake.info["instance_id"]})
    )
    assert jobs(place, capsys, "wait", "12") == (0, f"{fake.url}\n", "")


def test_files_are_removed_only_where_the_queue_says_that_the_job_is_over(place, queue, capsys):
    queue(None)
    code, _, err = jobs(place, capsys, "clean")
    assert (code, "slurm is down" in err) == (1, True)
    queue("12|COMPLETING|n1|llada-serve")
    assert jobs(place, capsys, "clean") == (0, "", "")
    queue("12|NODE_FAIL|n1|llada-serve")
    assert jobs(place, capsys, "clean") == (0, "removed 12\n", "")
    assert list(place.iterdir()) == []


def test_a_key_whose_server_never_came_up_is_removed_too(place, queue, capsys):
    (place / "12.json").unlink()
    assert jobs(place, capsys, "clean") == (0, "removed 12\n", "")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("words", [["12"], ["999"]])
def test_a_silent_slurm_is_told_at_once_and_an_unknown_job_is_not_waited_for(
    place, queue, fake, capsys, monkeypatch, words
):
    """`wait` said nothing and came to its end after its whole time, an hour by default."""
    monkeypatch.setattr(operate, "QUEUE_POLL_S", 0.0)
    queue(None)
    code, out, err = jobs(place, capsys, "wait", *words, "--timeout", "3")
    assert (code, out) == (1, "")
    if words == ["999"]:
        assert err.startswith(
            f"error: nothing is known of job 999: no server of this id is published in {place}"
        )
        with pytest.raises(operate.NotReady, match="nothing is known of job 999"):
            operate.wait_ready("999", place, 60)
    else:
        assert err.startswith("warning: SLURM does not answer: squeue ")
        assert "error: the server of job 12 was not ready within 3 s; SLURM does not answer: squeue" in err
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    assert "was not ready within 3 s" in jobs(place, capsys, "wait", *words, "--timeout", "3")[2], (
        "a container"
    )


def test_one_answer_of_slurm_that_is_lost_ends_nothing(place, queue, fake, capsys, monkeypatch):
    """Jobs of an array were waited for, or stopped, as if there were no others."""
    monkeypatch.setattr(operate, "POLL_S", 0.01)
    lost = [slurm.SlurmError("lost")]

    def my_jobs():
        if lost:
            raise lost.pop()
        return {i: slurm.Job(i, "CANCELLED", "", "llada-serve") for i in ("12_0", "12_1")}

    monkeypatch.setattr(slurm, "my_jobs", my_jobs)
    (place / "12.json").unlink()
    assert jobs(place, capsys, "stop", "12") == (0, "12_0 CANCELLED\n12_1 CANCELLED\n", "")


def test_which_jobs_an_array_has_is_not_guessed(place, queue, capsys):
    """One of two was published: the other, still in the queue, was neither waited for nor stopped."""
    (place / "12.json").rename(place / "12_0.json")
    published = (place / "12_0.json").read_text().replace('"12"', '"12_0"')
    (place / "12_0.json").write_text(published)
    queue(None)
    for command in ("wait", "stop"):
        code, out, err = jobs(place, capsys, command, "12")
        assert (code, out, "slurm is down" in err) == (1, "", True)
    queue("12_0|RUNNING|n1|llada-serve", "12_1|PENDING||llada-serve")
    with pytest.raises(operate.NotReady, match="job 12 is an array; its jobs are 12_0, 12_1"):
        operate.wait_ready("12", place, 3)


def test_a_job_that_cannot_be_stopped_hides_no_other(place, queue, capsys):
    queue("12|RUNNING|n1|llada-serve", "14|FAILED|n1|llada-serve")
    code, out, err = jobs(place, capsys, "stop", "12", "14")
    assert (code, out) == (1, "14 FAILED\n")
    assert err.startswith("error: job 12 is not stopped: scancel is not on the PATH")


def test_the_list_shows_servers_that_wait_in_the_queue(place, queue, capsys):
    queue("12|RUNNING|n1|llada-serve", "13_0|PENDING||llada-serve", "14|RUNNING|n1|other|name")
    _, out, _ = jobs(place, capsys, "list")
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["12", "RUNNING"], ["13_0", "PENDING"]]
    queue(None)
    code, out, err = jobs(place, capsys, "list")
    assert (code, "UNKNOWN" in out, "SLURM does not answer, so" in err) == (1, True, True)


def test_an_array_is_all_of_its_tasks(place, queue, fake, capsys):
    told = json.loads((place / "12.json").read_text())
    ready = {"url": fake.url, "instance_id": fake.info["instance_id"]}
    for number in (0, 1, 10):
        (place / f"12_{number}.json").write_text(json.dumps(told | ready | {"job_id": f"12_{number}"}))
    (place / "12.json").unlink()
    queue(*(f"12_{number}|RUNNING|n1|llada-serve" for number in (0, 1, 10)), "121_0|RUNNING|n1|llada-serve")
    assert jobs(place, capsys, "wait", "12") == (0, f"{fake.url}\n" * 3, "")
    assert jobs(place, capsys, "clean") == (0, "", ""), "the key is of all"
    queue("12_0|FAILED|n1|llada-serve", "12_1|RUNNING|n1|llada-serve", "12_10|FAILED|n1|llada-serve")
    assert jobs(place, capsys, "clean")[1] == "removed 12_0\nremoved 12_10\n"
    assert (place / "12.key").is_file()
    queue("12_0|FAILED|n1|llada-serve", "12_1|CANCELLED|n1|llada-serve", "12_10|FAILED|n1|llada-serve")
    assert jobs(place, capsys, "stop", "12") == (0, "12_0 FAILED\n12_1 CANCELLED\n12_10 FAILED\n", "")
    assert jobs(place, capsys, "clean")[1] == "removed 12\nremoved 12_1\n"
    assert list(place.iterdir()) == []


def test_waiting_ends_with_the_job(place, queue, capsys):
    queue("12|FAILED|n1|llada-serve")
    code, _, err = jobs(place, capsys, "wait", "12")
    over = "error: job 12 is over (FAILED) and its server does not answer; its log: "
    assert (code, err) == (1, f"{over}python -m llada_exp.jobs tail 12\n")
    assert jobs(place, capsys, "stop", "12") == (0, "12 FAILED\n", "")


def test_a_machine_without_slurm_is_told_so(place, queue, capsys):
    code, _, err = jobs(place, capsys, "tail", "12")
    assert (code, "scontrol is not on the PATH" in err) == (1, True)
    assert jobs(place, capsys, "show", "77")[0] == 2


def test_a_job_that_never_was_is_not_called_over(place, queue, capsys):
    """It was "job 999 is over (GONE)", and stopping it "999 GONE" with exit code 0."""
    code, _, err = jobs(place, capsys, "wait", "999")
    assert (code, err.startswith("error: no job 999: it is neither in SLURM's queue")) == (1, True)
    queue("12|FAILED|n1|llada-serve")
    code, out, err = jobs(place, capsys, "stop", "999", "12")
    assert (code, out) == (1, "12 FAILED\n"), "the others are stopped all the same"
    assert err.startswith("error: no job 999: ")
    queue()
    assert jobs(place, capsys, "stop", "12") == (0, "12 GONE\n", ""), "its file says that it was"


def test_a_list_without_a_line_says_so(place, queue, capsys):
    (place / "12.json").unlink()
    code, out, _ = jobs(place, capsys, "list")
    assert (code, out) == (0, f"no endpoint in {place}, and no job named llada-serve in the queue\n")
    queue(None)
    code, out, err = jobs(place, capsys, "list")
    assert (code, out) == (0, f"no endpoint in {place}\n")
    assert err.startswith("SLURM does not answer, so servers that wait are not known: squeue ")


def test_the_end_of_a_log_says_why_and_not_who_was_answered(tmp_path):
    """Prevents ten requests that went well as the reason of a server that died."""
    log, line = tmp_path / "server.log", '{"level": "%s", "logger": "x", "message": "%s"}'
    why = [line % ("error", "request"), line % ("warning", "worker 1 died"), "Traceback"]
    log.write_text("\n".join([*why, *[line % ("info", "request")] * 30]) + "\n")
    assert log_end(log) == "\n".join(why)
    log.write_text(line % ("info", "request"))
    assert log_end(log) == f"nothing but requests: {log}"
