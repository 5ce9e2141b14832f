"""Several servers as one address: the line of vllm-router over those that run, and what makes it safe.

Why these words of its command line, each as vllm-router 0.1.17 was seen to behave:

- A stream that has begun is passed through and never sent again. What else ends in 408, 429, 500, 502, 503,
  504 or a lost connection is asked for once more elsewhere: with a seed the answer is the same wherever it
  is made.
- `--retry-*`: six tries are spread over 2.6 s, longer than a dead server goes unnoticed (two looks, 1 s
  apart).
- `--disable-circuit-breaker`: it takes every 5xx for its server's fault. Four requests that failed by their
  own fault, five tries each, shut two sound servers out for everybody, for a minute. /health judges
  instead.
- `--policy round_robin`: its other policies know no load but that of prefixes, and no server here has those.
- No `--api-key`: with it the router adds the key to what comes without one (`/info`, `/metrics`). Clients
  send the key themselves, so that all servers must have the same.

Knows the router's options and HTTP; nothing of SLURM's queue.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llada_exp.clients.http import RequestFailed, base_url, environment_key, get_json, health
from llada_exp.jobs.endpoint import PublishedEndpoint, find, load_all, tasks_of
from llada_exp.jobs.operate import USABLE

PROGRAM = "vllm-router"
OPTIONS = (
    *("--policy", "round_robin"),
    *("--health-check-interval-secs", "1", "--health-failure-threshold", "2"),
    *("--health-success-threshold", "1"),
    *("--retry-max-retries", "6", "--retry-initial-backoff-ms", "200", "--retry-max-backoff-ms", "2000"),
    *("--disable-circuit-breaker", "--request-timeout-secs", "86400"),
)
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


@dataclass(frozen=True)
class RoutedServer:
    """name: its job, or its URL; url: without /v1; key: what its clients send, None where it has none;
    key_file: where that stands, if it is a job's."""

    name: str
    url: str
    key: str | None
    key_file: str | None = None


def running(names: Sequence[str], place: Path) -> tuple[list[RoutedServer], list[str]]:
    """The servers of these jobs (of an array: all), files and URLs, or without names all that are published
    at `place`; and of those that cannot be used now a text each, that says why. Raises ValueError for a
    name that nothing has."""
    servers, left_out = [], []
    chosen = [one for name in names for one in _by_name(name, place)] if names else load_all(place)
    for one in chosen:
        url = one if isinstance(one, str) else one.info["url"]
        state = health(one).get("status") or "no answer" if isinstance(one, str) else one.health()
        if state not in USABLE:
            left_out.append(f"{one if isinstance(one, str) else f'job {one.job_id}'} ({state})")
        elif isinstance(one, str):
            servers.append(RoutedServer(one, url, environment_key()))
        else:
            key_file = one.info.get("api_key_file")
            servers.append(RoutedServer(f"job {one.job_id}", url, one.key, key_file))
    return list({server.url: server for server in servers}.values()), left_out


def _by_name(name: str, place: Path) -> list[PublishedEndpoint] | list[str]:
    if "://" in name:
        return [base_url(name)]
    return tasks_of(name, load_all(place)) or [find(name, place)]


def check_alike(servers: Sequence[RoutedServer]) -> dict[str, Any]:
    """One client's request must mean the same at each: the same key, model, decoding and row length. What
    the first says of itself (`/info`). Raises ValueError naming what differs, RequestFailed where one is
    silent."""
    first = servers[0]
    if other := next((server for server in servers if server.key != first.key), None):
        raise ValueError(
            f"{first.name} and {other.name} have different keys, and a client has one: start the servers"
            " together (replicas=4), or each with the same api_key_file"
        )
    all_facts = [_facts(server) for server in servers]
    for server, facts in zip(servers, all_facts, strict=True):
        for name, value in facts.items():
            if value != all_facts[0].get(name):
                raise ValueError(
                    f"{name} is {all_facts[0].get(name)!r} at {first.name} and {value!r} at {server.name}: an"
                    " answer would depend on which of them is asked"
                )
    return all_facts[0]


def _facts(server: RoutedServer) -> dict[str, Any]:
    info = get_json(f"{server.url}/info", key=server.key)
    try:
        config = info["config"]
        facts = {f"model.{name}": config["model"][name] for name in ("name", "source", "path", "base")}
        facts |= {"model.settings": config["model"]["settings"], "dtype": config["dtype"]}
        facts["engine.max_length"] = config["engine"]["max_length"]
        return facts | {f"decoding.{name}": value for name, value in info["decoding"].items()}
    except (KeyError, TypeError, AttributeError):
        raise RequestFailed(f"{server.url}/info", "is no server of llada_exp") from None


def command(
    servers: Sequence[RoutedServer],
    host: str,
    port: int,
    metrics_port: int,
    environ: Mapping[str, str] = os.environ,
) -> list[str]:
    """The words that start the router, `env NO_PROXY=...` before them where the environment names a proxy: a
    server's node is not to be looked for behind it."""
    urls = [server.url for server in servers]
    words = [PROGRAM, "--host", host, "--port", str(port), "--worker-urls", *urls, *OPTIONS]
    words += ["--prometheus-host", host, "--prometheus-port", str(metrics_port)]
    if any(environ.get(name) for name in PROXIES):
        listed = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        hosts = [*filter(None, listed.split(",")), *(urlsplit(url).hostname or "" for url in urls)]
        value = ",".join(dict.fromkeys(hosts))
        return ["env", f"NO_PROXY={value}", f"no_proxy={value}", *words]
    return words


def start(words: Sequence[str]) -> None:
    """Become the router. Raises OSError with the words that help where it is not installed."""
    beside = Path(sys.executable).parent / PROGRAM  # an environment that is not activated
    program = shutil.which(PROGRAM) or (str(beside) if beside.is_file() else None)
    if program is None:
        raise OSError(
            f"{PROGRAM} is not on the PATH; pip install {PROGRAM}, best in an environment of its own"
        )
    os.execvp(words[0], [program if word == PROGRAM else word for word in words])
