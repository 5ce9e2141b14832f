"""Servers that are jobs: published, reached, found, drained, on a real queue."""

import json
import os
import re
import signal
import stat
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from tests.slurm.conftest import ROOT, Desk, until

pytestmark = pytest.mark.slurm
SLURM = ("-m", "hydra/launcher=slurm")
SBATCH = ("sbatch", "--parsable", "--gres=none", "--mem=1G", "--cpus-per-task=1")
SCRIPT = str(ROOT / "slurm" / "server.sbatch")


@pytest.fixture(scope="module", autouse=True)
def doomed(cluster, tmp_path_factory):
    """A server whose walltime is near, started before the other tests: its end takes a minute to come.
    SLURM counts walltimes in minutes, and here its signal comes up to a minute before the time asked for."""
    desk = Desk(tmp_path_factory.mktemp("doomed"))
    job_id = submitted(desk, "--time=2", "--signal=B:TERM@60")
    yield desk, job_id
    desk.clear()


def submitted(desk, *options, overrides=("batch_size=4",)):
    """The job id of slurm/server.sbatch, once its server is ready."""
    job_id = submit(desk, *options, overrides=overrides)
    code, said = desk.jobs("wait", job_id, "--timeout", "100")
    assert code == 0, said
    return job_id


def submit(desk, *options, overrides=("batch_size=4",)):
    done = desk.run(*SBATCH, *options, SCRIPT, *overrides)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def info_of(desk, job_id):
    return json.loads((desk.endpoints / f"{job_id}.json").read_text())


def key_header(desk, job_id):
    return {"Authorization": f"Bearer {Path(info_of(desk, job_id)['api_key_file']).read_text().strip()}"}


def ask(desk, job_id, num_tokens=8):
    info = info_of(desk, job_id)
    body = {"messages": [{"role": "user", "content": "What is 47 + 8?"}], "max_tokens": num_tokens}
    return httpx.post(
        f"{info['url']}/v1/chat/completions",
        json={**body, "ignore_eos": True, "tokens_per_step": 1},
        headers=key_header(desk, job_id),
        timeout=100,
    )


class Asking(threading.Thread):
    """A request that is in flight while the test goes on."""

    def __init__(self, desk, job_id, num_tokens):
        super().__init__(daemon=True)
        self.asked, self.answer = (desk, job_id, num_tokens), None
        self.start()
        url = info_of(desk, job_id)["url"]
        until(lambda: self.answer or self.is_in_flight(desk, job_id, url))

    def is_in_flight(self, desk, job_id, url):
        stats = httpx.get(f"{url}/batch/stats", headers=key_header(desk, job_id), timeout=30).json()
        return stats["currently_processing"]

    def run(self):
        self.answer = ask(*self.asked)


def test_one_line_serves_and_the_server_stays_when_the_line_is_done(desk):
    done = desk.python("llada_exp.serve", *SLURM, "batch_size=16")
    assert done.returncode == 0, done.stderr
    job_id, url = (
        re.search(r"job (\d+):", done.stdout).group(1),
        re.search(r"ready: (\S+)", done.stdout).group(1),
    )
    assert desk.state(job_id) == "RUNNING"
    info = info_of(desk, job_id)
    assert (info["job_id"], info["url"], info["status"], info["node"]) == (job_id, url, "ready", "n1")
    assert f"tunnel: ssh -N -L {info['port']}:n1:{info['port']} " in done.stdout
    assert len(info["instance_id"]) == 32
    guide = (ROOT / "slurm" / "README.md").read_text().split("| field |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", re.sub(r"\| [^|]*\|$", "", guide, flags=re.M))) == set(info)

    key_file = desk.endpoints / f"{job_id}.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert httpx.get(f"{url}/v1/models").status_code == 401
    assert ask(desk, job_id).status_code == 200
    key = key_file.read_text().strip()
    written = [p for p in desk.folder.rglob("*") if p.is_file() and p != key_file]
    assert not [p for p in written if key.encode() in p.read_bytes()], "the key is in one file only"

    code, listed = desk.jobs("list")
    assert (code, listed.splitlines()[1].split()[:5]) == (0, [job_id, "RUNNING", "ready", "n1", url])
    assert desk.jobs("show", job_id, "--url") == (0, f"{url}\n")
    assert desk.jobs("show", job_id, "--key") == (0, f"{key}\n")
    log = desk.jobs("tail", job_id)[1]
    assert f"ready: {url}" in log
    pasted = next(line for line in log.splitlines() if line.startswith("curl "))
    assert "#### 55" in desk.run("bash", "-c", pasted).stdout, "the line to paste has the key"
    assert desk.jobs("clean") == (0, ""), "it runs"

    asking = Asking(desk, job_id, 96)
    assert desk.jobs("stop", job_id) == (0, f"{job_id} COMPLETED\n")
    asking.join(30)
    assert asking.answer.json()["usage"]["completion_tokens"] == 96, "what was in flight is finished"
    assert info_of(desk, job_id)["status"] == "stopped"
    code, shown = desk.jobs("show", job_id)
    assert (code, json.loads(shown)["health"]) == (1, "stopped")
    assert desk.jobs("clean") == (0, f"removed {job_id}\n")
    assert list(desk.endpoints.iterdir()) == []


def test_two_servers_on_one_host_have_ports_and_keys_of_their_own(desk):
    """Fixed ports let one job's client reach the other job's server."""
    done = desk.python("tests.server.fake_serve", *SLURM, "place=job", "batch_size=2,3")
    assert done.returncode == 0, done.stderr
    ids = re.findall(r"^job (\S+):", done.stdout, re.M)
    infos = [info_of(desk, job_id) for job_id in ids]
    assert [job_id.partition("_")[2] for job_id in ids] == ["0", "1"]
    assert len({info["port"] for info in infos}) == 2
    for job_id, info, size in zip(ids, infos, (2, 3), strict=True):
        key = key_header(desk, job_id)
        assert httpx.get(f"{info['url']}/health").json()["instance_id"] == info["instance_id"]
        assert httpx.get(f"{info['url']}/batch/stats", headers=key).json()["max_batch_size"] == size
        other = infos[0] if info is infos[1] else infos[1]
        assert httpx.get(f"{other['url']}/batch/stats", headers=key).status_code == 401
    assert desk.jobs("stop", *ids) == (0, "".join(f"{job_id} COMPLETED\n" for job_id in ids))


def test_replicas_are_an_array_with_one_key(desk):
    done = desk.python("tests.server.fake_serve", *SLURM, "place=job", "replicas=2", "batch_size=2")
    assert done.returncode == 0, done.stderr
    ids = re.findall(r"^job (\S+):", done.stdout, re.M)
    array = ids[0].partition("_")[0]
    assert ids == [f"{array}_0", f"{array}_1"]
    assert f"python -m llada_exp.jobs router {array}\n" in done.stdout
    infos = [info_of(desk, job_id) for job_id in ids]
    assert {info["api_key_file"] for info in infos} == {str(desk.endpoints / f"{array}.key")}
    for info in infos:
        answer = httpx.get(f"{info['url']}/batch/stats", headers=key_header(desk, ids[0]))
        assert answer.json()["max_batch_size"] == 2
    code, said = desk.jobs("wait", array)
    assert (code, said.split()) == (0, [info["url"] for info in infos])
    code, line = desk.jobs("router", array)
    assert (code, " ".join(info["url"] for info in infos) in line) == (0, True)
    assert desk.jobs("stop", array) == (0, "".join(f"{job_id} COMPLETED\n" for job_id in ids))
    assert desk.jobs("clean")[0] == 0
    assert list(desk.endpoints.iterdir()) == []


def test_scancel_of_the_batch_script_drains_its_server(desk):
    """Without the script's exec the signal ends the shell, and the server is killed with it."""
    job_id = submitted(desk)
    asking = Asking(desk, job_id, 96)
    subprocess.run(["scancel", job_id], check=True)
    asking.join(30)
    assert asking.answer.json()["usage"]["completion_tokens"] == 96
    desk.wait_state(job_id, "CANCELLED")
    assert info_of(desk, job_id)["status"] == "stopped"


def test_a_requeued_server_is_published_anew(desk):
    job_id = submitted(desk)
    before = info_of(desk, job_id)
    subprocess.run(["scontrol", "requeue", job_id], check=True)
    desk.wait_state(job_id, "PENDING")
    assert desk.jobs("list")[1].splitlines()[1].split()[:3] == [job_id, "PENDING", "stopped"]
    subprocess.run(["scontrol", "update", f"JobId={job_id}", "StartTime=now"], check=True)
    assert desk.jobs("wait", job_id, "--timeout", "100")[0] == 0
    assert info_of(desk, job_id)["instance_id"] != before["instance_id"]
    assert ask(desk, job_id).status_code == 200


def test_a_killed_server_is_ill_until_its_files_are_cleaned_away(desk):
    job_id = submitted(desk)
    os.kill(info_of(desk, job_id)["pid"], signal.SIGKILL)
    desk.wait_state(job_id, "FAILED")
    assert info_of(desk, job_id)["status"] == "ready", "nobody was left to say otherwise"
    code, shown = desk.jobs("show", job_id)
    assert (code, json.loads(shown)["health"]) == (1, "no answer")
    code, said = desk.jobs("wait", job_id)
    assert (code, f"job {job_id} is over" in said) == (1, True)
    assert desk.jobs("clean") == (0, f"removed {job_id}\n")


def test_the_signal_before_the_walltime_drains_a_server(doomed):
    desk, job_id = doomed
    desk.wait_state(job_id, "COMPLETED", timeout_s=150)
    assert info_of(desk, job_id)["status"] == "stopped"
