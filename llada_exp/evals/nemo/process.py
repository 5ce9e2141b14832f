"""A run of NeMo-Skills as a child process: started, watched, and ended with all that it started.

Its jobs run in sessions of their own, so that neither a signal to `ns` nor to its process group reaches them:
every process of a run carries a mark in its environment, and is found by it. Knows processes and files (of
Linux), no HTTP.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from llada_exp.clients.http import no_proxy
from llada_exp.evals.nemo.command import Installed, NemoPlan, command, search_path

LOG = "nemo_skills.log"
MARK = "LLADA_NEMO_SKILLS_RUN"
POLL_S = 0.5
STOP_S = 10.0


def run(
    installed: Installed,
    plan: NemoPlan,
    folder: Path,
    alive: Callable[[], str | None] = lambda: None,
    blame: Callable[[], str | None] = lambda: None,
) -> Path:
    """Run a plan to its end; the path of its log, FOLDER/nemo_skills.log.

    alive: asked twice a second; a text means that there is no use in going on (every server is gone, a
           parameter was not used): the run is ended and the text is the error.
    blame: asked when it failed by itself, for what its log may not say (the server's words).

    Whatever ends this call ends every process that NeMo-Skills started, those in sessions of their own too.
    Raises ValueError where output_dir holds results and resume is off (NeMo-Skills would skip what is there,
    whatever it was asked with), RuntimeError with the end of the log for an exit code or missing output.
    """
    if not plan.resume and (old := [p for p in plan.outputs().values() if any(p.parent.glob(p.name + "*"))]):
        raise ValueError(f"output_dir holds {old[0]} of an earlier run; take another one, or resume=true")
    words = command(installed, plan)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / LOG
    mark = uuid.uuid4().hex
    with log.open("ab") as out:
        out.write(f"$ {shlex.join(words)}\n".encode())
        out.flush()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=installed.package.parent,  # without containers it looks for its data from where it runs
            env={**_environment(installed, folder), MARK: mark},
            start_new_session=True,
        )
    try:
        why = _watch(process, alive)
    finally:
        _end(process, mark)
    if why:
        raise RuntimeError(f"NeMo-Skills was ended: {why}\n{tail(log)}")
    if failed := _failure(process.returncode, plan):
        reason = alive() or blame()  # it may have been the quicker one to notice
        raise RuntimeError(f"{failed}{f' ({reason})' if reason else ''}; {log} ends:\n{tail(log)}")
    return log


def _failure(code: int, plan: NemoPlan) -> str | None:
    """Its exit code does not tell: it is 0 also where a job of it failed."""
    if code:
        return f"NeMo-Skills ended with exit code {code}"
    missing = [path for path in plan.outputs().values() if not path.is_file()]
    return f"NeMo-Skills wrote no {missing[0]}" if missing else None


def _environment(installed: Installed, folder: Path) -> dict[str, str]:
    """Ours, so that nothing but the endpoint is called and no container is started."""
    environ = {k: v for k, v in os.environ.items() if k not in ("NEMO_SKILLS_CONFIG", "PYTHONHOME")}
    return {
        **environ,
        "PATH": search_path(installed.python),
        "PYTHONUNBUFFERED": "1",
        "OPENAI_API_KEY": os.environ.get("OPENAI_API_KEY") or "EMPTY",
        **no_proxy(),  # the relay is on this machine
        "NEMO_SKILLS_DISABLE_UNCOMMITTED_CHANGES_CHECK": "1",
        "NEMORUN_HOME": str((folder / "nemo_run").absolute()),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it fetches one when imported
        "LITELLM_TELEMETRY": "False",
    }


def _watch(process: subprocess.Popen[bytes], alive: Callable[[], str | None]) -> str | None:
    """Until it ends, or there is a reason to end it."""
    while process.poll() is None:
        if why := alive():
            return why
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
    return None


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Ask all that is left of a run to end, and insist: its jobs run in sessions of their own."""
    signalled: set[int] = set()
    until = time.monotonic() + STOP_S
    while left := _marked(mark) | ({process.pid} if process.poll() is None else set()):
        late = time.monotonic() > until
        for pid in left if late else left - signalled:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
        signalled |= left
        time.sleep(0.05)


def _marked(mark: str) -> set[int]:
    """Processes whose environment carries the mark."""
    word, pids = f"{MARK}={mark}".encode(), set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if word in path.read_bytes().split(b"\0"):
                pids.add(int(path.parent.name))
    return pids


def tail(log: Path, num_lines: int = 20) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-num_lines:])
