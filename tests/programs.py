"""`python -m MODULE WORDS` for tests that are not about a process's start: forked, with its imports done.

Our programs spend one to fifteen seconds of CPU on imports, and less than one on what a test asks of them.
tests/fork_server.py has done the imports, and nothing else; each call is a fork of it: a process like any
other, with streams, environment, working directory, signals and an exit code of its own.
"""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMPORTS = (
    "hydra.main", "hydra._internal.hydra", "scipy.stats", "torch", "transformers",
    "llada_exp.command_line", "llada_exp.bench.settings", "llada_exp.bench.task", "llada_exp.evals.settings",
    "llada_exp.evals.task", "llada_exp.jobs.operate", "llada_exp.jobs.slurm", "llada_exp.checkpoints",
)  # fmt: skip
"""What programs spend their time on: 6 s, once."""


def run(module, *words, cwd=ROOT, env=None, timeout=240.0):
    """What `subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True)` gives.

    env: the whole environment (by default this process's). Raises subprocess.TimeoutExpired, and kills it
    first.
    """
    environment = dict(os.environ if env is None else env)
    request = {"module": module, "words": words, "cwd": str(cwd), "env": environment}
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        fds = [theirs.fileno(), out.fileno(), err.fileno()]
        socket.send_fds(_server(), [json.dumps(request).encode()], fds)
        theirs.close()
        lines, until = b"", time.monotonic() + timeout
        try:
            while lines.count(b"\n") < 2:
                if not select.select([ours], [], [], max(0.0, until - time.monotonic()))[0]:
                    raise subprocess.TimeoutExpired([module, *words], timeout)
                piece = ours.recv(64)
                assert piece, "tests/fork_server.py is gone"
                lines += piece
        except BaseException:  # pytest's own time limit and Ctrl-C, too: a program must not outlive its test
            if lines.count(b"\n") == 1:
                os.kill(int(lines), signal.SIGKILL)
            raise
        texts = [file.seek(0) or file.read().decode() for file in (out, err)]
    return subprocess.CompletedProcess([module, *words], int(lines.split()[1]), *texts)


@functools.cache
def _server():
    """The way to tests/fork_server.py, which ends where it is closed: with this process, at the latest."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.fork_server", str(theirs.fileno()), *IMPORTS]
    process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()
    atexit.register(lambda: (ours.close(), process.wait()))
    return ours
