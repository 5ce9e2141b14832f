"""Start a server of one's own, use it, and always stop it.

    with running_server(["model=tiny", "batch_size=4"]) as server:
        ... server.url ...

The server is a child process on a free port; it is known to be the right one by the instance id that
its own /health and its server-info file agree on. Knows HTTP and processes, nothing of the server's
inside.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llada_exp.clients.http import health
from llada_exp.settings import override_value
from llada_exp.signals import deferred, terminable, with_starter

POLL_S = 0.05
_ANSWERED = re.compile(r'"level": "info".*"message": "request"')
"""A line of the server's log on a request that is no fault of the server's."""
SERVE = (sys.executable, "-m", "llada_exp.serve")


class ServerFailed(RuntimeError):
    """The server did not come up; the message holds the end of its log."""


@dataclass(frozen=True)
class ServerHandle:
    """url: without /v1; info: what its server-info file said; log: its stdout and stderr."""

    url: str
    info: Mapping[str, Any]
    pid: int
    log: Path
    process: subprocess.Popen[bytes]

    def ended(self) -> str | None:
        """That its process runs no more, how it ended and what it said last; None while it runs."""
        if (code := self.process.poll()) is None:
            return None
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"the server's process ended {how}; its log ends:\n{log_end(self.log, 10)}"


@contextmanager
def running_server(
    overrides: Sequence[str] = (),
    *,
    command: Sequence[str] = SERVE,
    folder: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    start_timeout_s: float = 600.0,
    stop_timeout_s: float = 60.0,
) -> Iterator[ServerHandle]:
    """A server with these Hydra overrides on a free port, ready when the block is entered, stopped when
    it is left: by a signal too. Where this process is killed (-9) the server sees it, and ends by itself.

    folder: where log, run folder and server-info file go; by default a temporary one.
    Raises ServerFailed, with the end of the log, if it ends or is not ready in time.
    """
    with terminable(but=(signal.SIGINT,)), contextlib.ExitStack() as stack:  # SIGINT raises already
        place = Path(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="llada-server-")))
        place.mkdir(parents=True, exist_ok=True)
        info = place / "server.json"
        info.unlink(missing_ok=True)
        run_dir = override_value(str(place / "run"))
        words = ["port=0", f"server_info={override_value(str(info))}", f"hydra.run.dir={run_dir}"]
        with deferred():  # or a signal between the two would leave it running
            process = _start([*command, *words, *overrides], place / "server.log", env)
            stack.callback(stop, process, stop_timeout_s)
        yield _wait_ready(process, info, place / "server.log", start_timeout_s)


def stop(process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> int:
    """Ask a server to drain and end, insist after the time-out; its exit code. A signal to this process
    meanwhile makes it quick: it drains no longer, and the next one kills it."""
    signals = 0

    def insist() -> None:
        nonlocal signals
        signals += 1
        process.terminate() if signals == 1 else kill()

    def kill() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    with deferred(insist):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                kill()
        return process.wait()


def _start(command: list[str], log: Path, env: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    """In a session of its own: a Ctrl-C here is ours to pass on."""
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **with_starter(), **(env or {})},
            start_new_session=True,
        )


def _wait_ready(process: subprocess.Popen[bytes], info: Path, log: Path, timeout_s: float) -> ServerHandle:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise ServerFailed(f"the server ended with exit code {process.returncode}:\n{log_end(log)}")
        if info.is_file():  # written at once, by rename, after the server saw its own /health
            facts = json.loads(info.read_text())
            if health(facts["url"]).get("instance_id") == facts["instance_id"]:
                return ServerHandle(facts["url"], facts, process.pid, log, process)
        time.sleep(POLL_S)
    raise ServerFailed(f"the server was not ready within {timeout_s:g} s:\n{log_end(log)}")


def log_end(log: Path, num_lines: int = 20) -> str:
    """The last lines that say why: without those of requests that were answered."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if not _ANSWERED.search(line)]
    return "\n".join(lines[-num_lines:]) or f"nothing but requests: {log}"
