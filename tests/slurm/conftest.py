"""A real SLURM for the tests marked `slurm`: the throw-away one of slurm/dev, never a cluster's own.

Where it is not running, it is started by root: with SLURM installed, or with CI=true, which installs it.
Elsewhere the tests skip and say why; with CI=true they fail instead.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llada_exp.jobs import slurm

ROOT = Path(__file__).parents[2]
UP, DOWN = ROOT / "slurm" / "dev" / "slurm_up.sh", ROOT / "slurm" / "dev" / "slurm_down.sh"
CONF, MARK = Path("/etc/slurm/slurm.conf"), "# written by slurm_up.sh"
IN_CI = os.environ.get("CI") == "true"


def why_not():
    """Why there can be no throw-away SLURM here; None where there can."""
    if CONF.exists() and MARK not in CONF.read_text():
        return "this machine belongs to a SLURM cluster; the tests want a throw-away one"
    if answers():
        return None
    if os.geteuid() != 0:
        return f"{UP.relative_to(ROOT)} starts a SLURM, but only as root"
    if not shutil.which("apt-get") or not (IN_CI or shutil.which("slurmctld")):
        return f"SLURM is not installed; on Debian, as root, {UP.relative_to(ROOT)} installs and starts it"
    return None


def answers():
    return (
        bool(shutil.which("sinfo"))
        and not subprocess.run(["sinfo"], capture_output=True, check=False).returncode
    )


@pytest.fixture(scope="session")
def cluster():
    if reason := why_not():
        pytest.fail(reason) if IN_CI else pytest.skip(reason)
    was_up = answers()
    if not was_up:
        done = subprocess.run([str(UP)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    yield
    if not was_up:
        subprocess.run([str(DOWN)], check=True, capture_output=True)


@pytest.fixture
def desk(cluster, tmp_path):
    """A user's place on the cluster: a folder, an environment, and commands that run there."""
    own = Desk(tmp_path)
    yield own
    own.clear()


class Desk:
    def __init__(self, folder):
        self.folder = folder
        self.endpoints = folder / "endpoints"
        small = {"GRES": "", "MEM": "1G", "CPUS": "1", "TIME": "5"}
        unset = {"ACCOUNT", "PARTITION", "SETUP", "LLADA_API_KEY"}
        self.env = {k: v for k, v in os.environ.items() if k not in unset and not k.startswith("SLURM_")}
        self.env |= small | {"PYTHONPATH": str(ROOT), "LLADA_ENDPOINTS": str(self.endpoints)}
        self.env |= {"PYTHON": sys.executable, "OMP_WAIT_POLICY": "PASSIVE"}
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"
        self.before = set(slurm.my_jobs())

    def run(self, *words, timeout=200):
        return subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )

    def python(self, module, *words, **options):
        return self.run(sys.executable, "-m", module, *words, **options)

    def start(self, module, *words):
        """The same, not waited for."""
        log = (self.folder / "started.log").open("w")
        command = [sys.executable, "-m", module, *words]
        return subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log)

    def started(self):
        """What it has said so far."""
        return (self.folder / "started.log").read_text()

    def jobs(self, *words):
        """`python -m llada_exp.jobs ...`: exit code and output."""
        done = self.python("llada_exp.jobs", *words)
        return done.returncode, done.stdout + done.stderr

    def state(self, job_id):
        return slurm.my_jobs()[job_id].state

    def wait_state(self, job_id, *states, timeout_s=100):
        until(lambda: job_id in slurm.my_jobs() and self.state(job_id) in states, timeout_s)

    def new_jobs(self):
        return [job for job in slurm.my_jobs().values() if job.id not in self.before]

    def clear(self):
        if left := [job.id for job in self.new_jobs() if not job.has_ended]:
            slurm.cancel(left)


def until(holds, timeout_s=100):
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.3)
