"""harness=nemo_skills: the user's NeMo-Skills against the endpoints, by way of the relay.

The relay is the one address that NeMo-Skills knows; it splits the requests over the endpoints, outlives one
of them, and writes down what each response says it was decoded with: that is held against what was asked.
"""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path

from llada_exp.clients.pool import to_stderr
from llada_exp.clients.relay import relay
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harness import Harness, Prepared
from llada_exp.evals.nemo import command, process
from llada_exp.evals.nemo.command import Installed, NemoPlan
from llada_exp.evals.nemo.results import (
    first_failure,
    first_look,
    read_metrics,
    read_results,
    verify_parameters,
)
from llada_exp.evals.result import HarnessResult
from llada_exp.evals.target import target
from llada_exp.runs.keys import Key, integer, text, words

REQUESTS = "requests.jsonl"
OUTPUT = "nemo_skills"
_NEMO_FIELDS = ("temperature", "top_p", "top_k", "max_tokens")
"""Fields of a request for which NeMo-Skills has names of its own."""


def prepare(settings: EvalSettings) -> Prepared:
    """Raises ValueError where NeMo-Skills is not installed, or cannot be told what is asked."""
    installed = command.find(settings.harness_keys["command"])
    command.command(installed, nemo_plan(settings, "http://HOST:1", "NAME", Path("/OUT")))
    return Prepared(partial(plan, settings, installed), partial(run, settings, installed))


def plan(settings: EvalSettings, installed: Installed, folder: Path) -> list[str]:
    """The command of a dry run."""
    address = settings.urls[0] if len(settings.urls) == 1 else "http://RELAY:1"
    model = settings.server.model.name if settings.server else "SERVED"
    words = command.command(installed, nemo_plan(settings, address, model, folder / OUTPUT))
    return [f"NeMo-Skills {installed.version}:", shlex.join(words)]


def nemo_plan(
    settings: EvalSettings, address: str, model: str, output_dir: Path, resume: bool = False
) -> NemoPlan:
    """One sample a problem is NeMo-Skills' greedy run, unless a temperature is asked for."""
    request = settings.request
    greedy = not request.get("temperature")
    return NemoPlan(
        benchmarks={
            b.name: 0 if b.num_samples == 1 and greedy else b.num_samples for b in settings.benchmarks
        },
        address=address,
        model=model,
        output_dir=output_dir,
        expname=settings.name,
        max_samples=settings.max_samples,
        temperature=request.get("temperature"),
        top_p=request.get("top_p"),
        top_k=request.get("top_k"),
        tokens_to_generate=request.get("max_tokens", settings.harness_keys["tokens_to_generate"]),
        seed=settings.seed,
        concurrency=settings.concurrency,
        decoding={name: value for name, value in request.items() if name not in _NEMO_FIELDS},
        resume=resume,
        extra=settings.harness_keys["args"],
    )


def run(settings: EvalSettings, installed: Installed, folder: Path) -> HarnessResult:
    """Raises RuntimeError where NeMo-Skills fails, or the server did not use what was asked."""
    record, output = folder / REQUESTS, folder / OUTPUT
    with target(settings, folder) as endpoints:
        with relay(endpoints.pool(settings), record) as address:
            plan = nemo_plan(settings, address.url, endpoints.model, output, resume=output.exists())
            look = first_look(plan.sent(), record)
            process.run(
                installed,
                plan,
                folder,
                alive=lambda: address.error or look(),
                blame=lambda: first_failure(record),
            )
        if (warning := verify_parameters(plan.sent(), record)) is not None:
            to_stderr(f"warning: {warning}")
        return HarnessResult(
            read_results(plan, record),
            endpoints.model,
            endpoints.urls[0],
            endpoints.handle is not None,
            version=installed.version,
            metrics=read_metrics(plan),
        )


HARNESS = Harness(
    name="nemo_skills",
    benchmarks="NeMo-Skills' names: gsm8k, hendrycks_math, aime24 ...; any name that no other harness knows",
    keys=(
        Key("command", None, text, "path of `ns`", unset="on the PATH"),
        Key("tokens_to_generate", 512, integer(1, 2**20), "answer tokens where nothing else says how many"),
        Key("args", [], words("words for `ns eval`: ['++key=value']"), "more words for `ns eval`"),
    ),
    recognises=lambda name: True,
    prepare=prepare,
    records=(f"{OUTPUT}/**/output*.jsonl*",),
)
