"""`python -m llada_exp.jobs`: the endpoints that run as SLURM jobs, for people and for scripts."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from urllib.parse import urlsplit

from llada_exp.clients.http import KEY_VARIABLE, RequestFailed
from llada_exp.jobs import operate, router, slurm
from llada_exp.jobs.endpoint import FOLDER_VARIABLE, find, folder, load_all
from llada_exp.programs import run_program
from llada_exp.signals import EndedBySignal
from llada_exp.tables import WHOLE_WIDTH, Table, TableColumn, terminal_width

FAILED, USAGE_ERROR = 1, 2
MAX_AT_ONCE = 16
COLUMNS = [field.name for field in fields(operate.JobRow)]


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except (slurm.SlurmError, operate.NotReady, RequestFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED


def _list(arguments: argparse.Namespace) -> int:
    shown, silence = operate.rows(arguments.folder)
    if silence is not None:
        print(f"SLURM does not answer, so servers that wait are not known: {silence}", file=sys.stderr)
    if not shown:
        queued = "" if silence else f", and no job named {operate.SERVE_NAME} in the queue"
        print(f"no endpoint in {arguments.folder}{queued}")
        return 0
    layout = table(shown).layout(terminal_width() if sys.stdout.isatty() else WHOLE_WIDTH)
    print("\n".join([layout.head(), *map(layout.line, shown), *filter(None, [layout.hint(None)])]))
    return 0 if operate.usable(shown) else FAILED


def table(shown: Sequence[operate.JobRow]) -> Table:
    """A line a job; what is there to be pasted is not folded."""
    pasted, in_url = ("job_id", "url"), "node"
    columns = [TableColumn(n, attrgetter(n), int(n == in_url), left=True, whole=n in pasted) for n in COLUMNS]
    return Table(columns, shown)


def _show(arguments: argparse.Namespace) -> int:
    endpoint = find(arguments.job, arguments.folder)
    health = endpoint.health()
    if arguments.url:
        print(endpoint.info["url"])
    elif arguments.key:
        print(endpoint.key or "")
    else:
        print(json.dumps({**endpoint.info, "health": health}, indent=2))
    return 0 if health in operate.USABLE else FAILED


def _wait(arguments: argparse.Namespace) -> int:
    try:
        _print_urls(arguments)
    except EndedBySignal as end:
        end.results = "the job goes on"
        end.again = f"python -m llada_exp.jobs wait {arguments.job}"
        raise
    return 0


def _print_urls(arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    for job_id in operate.tasks(arguments.job, arguments.folder):
        waited_s = time.monotonic() - began
        try:
            endpoint = operate.wait_ready(job_id, arguments.folder, arguments.timeout, waited_s)
        except operate.JobOver as error:
            raise operate.JobOver(f"{error}; its log: python -m llada_exp.jobs tail {job_id}") from None
        print(endpoint.info["url"], flush=True)


def _tail(arguments: argparse.Namespace) -> int:
    log = slurm.log_of(arguments.job)
    if log is None or not Path(log).is_file():
        place = f"it goes to {log}" if log else "SLURM does not say where it goes"
        print(f"error: job {arguments.job} has no log yet ({place})", file=sys.stderr)
        return FAILED
    follow = ["-F"] if arguments.follow else []
    os.execvp("tail", ["tail", "-n", str(arguments.lines), *follow, log])


def _stop(arguments: argparse.Namespace) -> int:
    job_ids = [job_id for name in arguments.jobs for job_id in operate.tasks(name, arguments.folder)]

    def stop(job_id: str) -> str | RuntimeError:
        try:
            return operate.stop(job_id, arguments.folder, arguments.timeout, arguments.now)
        except (operate.NoSuchJob, slurm.SlurmError) as error:  # the others are stopped all the same
            return error

    code = 0
    threads = ThreadPoolExecutor(MAX_AT_ONCE)  # each drains for half a minute
    try:
        for job_id, state in zip(job_ids, threads.map(stop, job_ids), strict=True):
            if isinstance(state, RuntimeError):
                print(f"error: {_about(job_id, state)}", file=sys.stderr, flush=True)
                code = FAILED
            else:
                print(f"{job_id} {state}", flush=True)
    except EndedBySignal as end:
        end.results = "the jobs that were asked to stop go on to do so"
        end.again = f"python -m llada_exp.jobs stop {' '.join(arguments.jobs)}"
        print(end.line(), file=sys.stderr, flush=True)
        os._exit(128 + end.signal)  # the threads would be waited for
    return code


def _about(job_id: str, error: RuntimeError) -> str:
    return str(error) if isinstance(error, operate.NoSuchJob) else f"job {job_id} is not stopped: {error}"


def _router(arguments: argparse.Namespace) -> int:
    servers, left_out = router.running(arguments.servers, arguments.folder)
    if left_out:
        print(f"warning: left out: {', '.join(left_out)}", file=sys.stderr)
    if not servers:
        raise operate.NotReady("no server is ready; see python -m llada_exp.jobs list")
    model = router.check_alike(servers)["model.name"]
    words = router.command(servers, arguments.host, arguments.port, arguments.metrics_port)
    key = f", key: {servers[0].key_file or KEY_VARIABLE}" if servers[0].key else ""
    print(
        f"{len(servers)} x {model} as http://{arguments.host}:{arguments.port}/v1{key}; of the router itself:"
        f" http://{arguments.host}:{arguments.metrics_port}/metrics",
        file=sys.stderr,
        flush=True,
    )
    if arguments.start:
        router.start(words)
    print(shlex.join(words))
    return 0


def _targets(arguments: argparse.Namespace) -> int:
    """Every published server, answering or not: one that does not is what a dashboard has to show."""
    shown = [
        {
            "targets": [urlsplit(endpoint.info["url"]).netloc],
            "labels": {"job_id": endpoint.job_id, "model": endpoint.info["model"]},
        }
        for endpoint in load_all(arguments.folder)
        if endpoint.info["status"] != "stopped"
    ]
    print(json.dumps(shown, indent=2))
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    for job_id in operate.clean(arguments.folder):
        print(f"removed {job_id}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llada_exp.jobs", description=__doc__)
    parser.add_argument(
        "--folder",
        type=Path,
        default=folder(),
        help=f"where endpoints are published (default: ${FOLDER_VARIABLE}, or %(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(command=command)
        return one

    add("list", _list, "every endpoint, its job's state and its health; exit code 1 where one is unhealthy")
    show = add(
        "show", _show, "what an endpoint says of itself, and its health; exit code 1 where it is unhealthy"
    )
    show.add_argument("job", help="job id, or path of the endpoint's file")
    only = show.add_mutually_exclusive_group()
    only.add_argument("--url", action="store_true", help="the URL alone")
    only.add_argument("--key", action="store_true", help="the key alone")
    wait = add("wait", _wait, "until the endpoint is ready, then its URL; exit code 1 when its job is over")
    wait.add_argument("job", help="job id; of an array: all its servers, a URL each")
    wait.add_argument("--timeout", type=float, default=3600, metavar="S", help="seconds (%(default)s)")
    tail = add("tail", _tail, "the end of the job's log")
    tail.add_argument("job", help="job id")
    tail.add_argument("-n", dest="lines", type=int, default=20, metavar="N", help="lines (%(default)s)")
    tail.add_argument("-f", dest="follow", action="store_true", help="go on as it grows")
    stop = add("stop", _stop, "finish what is in flight, then end the job")
    stop.add_argument("jobs", nargs="+", metavar="job", help="job id; of an array: all its servers")
    stop.add_argument("--now", action="store_true", help="cancel at once")
    stop.add_argument(
        "--timeout",
        type=float,
        default=300,
        metavar="S",
        help="cancel what has not ended by then (%(default)s)",
    )
    route = add("router", _router, "the line of vllm-router that makes one address of several servers")
    route.add_argument(
        "servers",
        nargs="*",
        metavar="server",
        help="job id, of an array all its servers, or URL (every endpoint)",
    )
    route.add_argument("--host", default="127.0.0.1", help="where the router listens (%(default)s)")
    route.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    route.add_argument("--metrics-port", type=int, default=29000, help="of its own /metrics (%(default)s)")
    route.add_argument("--start", action="store_true", help="become the router instead of printing its line")
    add("targets", _targets, "every endpoint as Prometheus' file_sd_configs reads them (JSON)")
    add("clean", _clean, "remove the files of jobs that are over")
    return parser


if __name__ == "__main__":
    run_program(main)
