"""`python -m llada_exp.jobs`: the endpoints that run as SLURM jobs, for people and for scripts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path

from llada_exp.jobs import operate, slurm
from llada_exp.jobs.endpoint import FOLDER_VARIABLE, find, folder
from llada_exp.tables import Table, TableColumn

FAILED, USAGE_ERROR = 1, 2
COLUMNS = [field.name for field in fields(operate.JobRow)]


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except (slurm.SlurmError, operate.NotReady, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED


def _list(arguments: argparse.Namespace) -> int:
    shown = operate.rows(arguments.folder)
    # Whole, however narrow the terminal is: a folded URL cannot be pasted, nor read by a script.
    print(Table([TableColumn(name, attrgetter(name), left=True) for name in COLUMNS], shown).text())
    return 0 if operate.usable(shown) else FAILED


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
    print(operate.wait_ready(arguments.job, arguments.folder, arguments.timeout).info["url"])
    return 0


def _tail(arguments: argparse.Namespace) -> int:
    log = slurm.log_of(arguments.job)
    if log is None or not Path(log).is_file():
        print(f"error: job {arguments.job} has no log yet (it goes to {log})", file=sys.stderr)
        return FAILED
    follow = ["-F"] if arguments.follow else []
    os.execvp("tail", ["tail", "-n", str(arguments.lines), *follow, log])


def _stop(arguments: argparse.Namespace) -> int:
    for job_id in arguments.jobs:
        print(f"{job_id} {operate.stop(job_id, arguments.folder, arguments.timeout, arguments.now)}")
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
    wait.add_argument("job", help="job id")
    wait.add_argument("--timeout", type=float, default=3600, metavar="S", help="seconds (%(default)s)")
    tail = add("tail", _tail, "the end of the job's log")
    tail.add_argument("job", help="job id")
    tail.add_argument("-n", dest="lines", type=int, default=20, metavar="N", help="lines (%(default)s)")
    tail.add_argument("-f", dest="follow", action="store_true", help="go on as it grows")
    stop = add("stop", _stop, "finish what is in flight, then end the job")
    stop.add_argument("jobs", nargs="+", metavar="job", help="job id")
    stop.add_argument("--now", action="store_true", help="cancel at once")
    stop.add_argument(
        "--timeout",
        type=float,
        default=300,
        metavar="S",
        help="cancel what has not ended by then (%(default)s)",
    )
    add("clean", _clean, "remove the files of jobs that are over")
    return parser


if __name__ == "__main__":
    sys.exit(main())
