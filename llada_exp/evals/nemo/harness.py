"""harness=nemo_skills: the user's NeMo-Skills against the endpoints, by way of the relay.

The relay is the one address that NeMo-Skills knows; it splits the requests over the endpoints, outlives one
of them, and writes down what each response says it was decoded with: that is held against what was asked.
"""

from __future__ import annotations

import json
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from llada_exp.clients.pool import to_stderr
from llada_exp.clients.relay import relay
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harness import Harness, Prepared
from llada_exp.evals.nemo import benchmarks, command, process
from llada_exp.evals.nemo.command import Installed, NemoPlan
from llada_exp.evals.nemo.results import (
    RelayRecord,
    first_failure,
    first_look,
    read_metrics,
    read_results,
    verify_parameters,
)
from llada_exp.evals.nemo.resume import go_on
from llada_exp.evals.result import HarnessResult
from llada_exp.evals.target import target
from llada_exp.runs.keys import Key, integer, text, words

REQUESTS = "requests.jsonl"
OUTPUT = "nemo_skills"
TOO_LONG = re.compile(r"this model's maximum context length is", re.IGNORECASE)
"""By these words NeMo-Skills' HTTP client knows a prompt that is too long."""
_NEMO_FIELDS = ("temperature", "top_p", "top_k", "max_tokens")
"""Fields of a request for which NeMo-Skills has names of its own."""


def prepare(settings: EvalSettings) -> Prepared:
    """Raises ValueError where NeMo-Skills is not installed, or cannot be told what is asked."""
    installed = command.find(settings.harness_keys["command"])
    command.command(installed, nemo_plan(settings, "http://HOST:1", "NAME", Path("/OUT")))
    benchmarks.check(installed.python, [b.name for b in settings.benchmarks])
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
        tokenizer=_tokenizer(settings),
        extra=settings.harness_keys["args"],
    )


def _tokenizer(settings: EvalSettings) -> str | None:
    """As the user says, else of the model of our own server; None where it is not known."""
    if (place := settings.harness_keys["tokenizer"]) is not None:
        return _absolute(place)
    if settings.server is None:
        return None
    model = settings.server.model
    place = model.base if model.source == "dcp" else model.path
    if model.source == "tiny":
        from llada_exp.checkpoints.tiny import tiny_folder  # torch: only where needed

        place = str(tiny_folder())
    place = _absolute(place) if place is not None else None
    return place if place is not None and command.is_plain(place) else None


def _absolute(place: str) -> str:
    """NeMo-Skills runs in another folder. A hub id stays one."""
    path = Path(place).expanduser()
    return str(path.absolute()) if path.exists() else place


def run(settings: EvalSettings, installed: Installed, folder: Path) -> HarnessResult:
    """Raises RuntimeError where NeMo-Skills fails, or the server did not use what was asked."""
    record, output = folder / REQUESTS, folder / OUTPUT
    with target(settings, folder) as endpoints:
        stand_in = StandIn(softly=_tokenizer(settings) is not None)
        with relay(endpoints.pool(settings), record, stand_in) as address:
            plan = nemo_plan(settings, address.url, endpoints.model, output, resume=output.exists())
            num_before = go_on(plan, RelayRecord(record).failure)
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
            num_before,
            version=installed.version,
            metrics=read_metrics(plan),
        )


class StandIn:
    """Whether the relay stands in for a request that failed, of which NeMo-Skills would die.

    softly: it has a tokenizer, and takes care itself of a prompt that is too long: once. It asks again with
    fewer tokens then, and dies where that is refused, too.
    """

    def __init__(self, softly: bool) -> None:
        self._softly = softly
        self._refused: set[str] = set()

    def __call__(self, status: int, why: str, body: Any) -> bool:
        if status in (401, 403):
            return False
        if not self._softly or status != 400 or not TOO_LONG.search(why) or not isinstance(body, dict):
            return True
        question = json.dumps([body.get(name) for name in ("messages", "prompt", "seed")])
        if question in self._refused:
            return True
        self._refused.add(question)
        return False


HARNESS = Harness(
    name="nemo_skills",
    benchmarks="NeMo-Skills' names: gsm8k, hendrycks_math, aime24 ...; any name that no other harness knows",
    keys=(
        Key("command", None, text, "path of `ns`", unset="on the PATH"),
        Key("tokens_to_generate", 512, integer(1, 2**20), "answer tokens where nothing else says how many"),
        Key("tokenizer", None, text, "folder or hub id", unset="the own server's model's"),
        Key("args", [], words("words for `ns eval`: ['++key=value']"), "more words for `ns eval`"),
    ),
    recognises=lambda name: True,
    prepare=prepare,
    records=(f"{OUTPUT}/**/output*.jsonl*",),
)
