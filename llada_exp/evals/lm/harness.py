"""harness=lm_eval: lm-eval's tasks on the model itself, in this process, or on endpoints.

In this process, generation tasks are decoded as the server would: by the preset `decoding`, and by what the
evaluation's own keys say.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from llada_exp.clients.pool import to_stderr
from llada_exp.evals.evaluation import EvalSettings
from llada_exp.evals.harness import Harness, Prepared
from llada_exp.evals.lm import tasks
from llada_exp.evals.result import HarnessResult
from llada_exp.evals.target import target
from llada_exp.runs.keys import Key, flag, integer, mapping, text


def prepare(settings: EvalSettings) -> Prepared:
    """Raises ValueError where lm-eval is not installed, or cannot do what is asked."""
    version = tasks.require()
    if settings.num_samples > 1:
        raise ValueError(
            f"benchmark asks for {settings.num_samples} samples; lm-eval's tasks say it themselves (repeats)"
        )
    where = "endpoints" if settings.urls else "the model in this process"
    return Prepared(lambda folder: [f"lm-eval {version} on {where}"], partial(run, settings))


def run(settings: EvalSettings, folder: Path) -> HarnessResult:
    """Raises RuntimeError where no endpoint answers any more."""
    if settings.urls:
        return _on_endpoints(settings, folder)
    from llada_exp.checkpoints import load_model

    server = settings.server
    assert server is not None
    model = load_model(
        server.model.source,
        server.model.path,
        server.model.base,
        server.device,
        server.dtype,
        server.model.name,
        **server.model.settings,
    )
    outcome = tasks.run_lm_eval(
        **_common(settings, folder),
        model=model,
        preset=server.decoding,
        batch_size=server.batch_size,
        max_positions=server.engine.max_positions,
        max_length=server.engine.max_length,
    )
    return _result(outcome, server.model.name, None, local=True)


def _on_endpoints(settings: EvalSettings, folder: Path) -> HarnessResult:
    with target(settings, folder) as endpoints:
        outcome = tasks.run_lm_eval(
            **_common(settings, folder),
            pool=lambda: endpoints.pool(settings),
            model_name=endpoints.model,
            concurrency=settings.concurrency,
        )
        return _result(outcome, endpoints.model, endpoints.urls[0], local=False)


def _common(settings: EvalSettings, folder: Path) -> dict[str, Any]:
    """The harness's keys are arguments of `run_lm_eval` by their own names."""
    return {
        "tasks": [b.name for b in settings.benchmarks],
        "folder": folder,
        "request": settings.request,
        "limit": settings.max_samples,
        "apply_chat_template": settings.chat_template,
        "mc_seed": settings.seed,
        **settings.harness_keys,
    }


def _result(outcome: tasks.TaskOutcome, model: str, url: str | None, local: bool) -> HarnessResult:
    if outcome.num_cut:
        to_stderr(f"warning: {outcome.num_cut} prompts were too long for a row and lost their start")
    return HarnessResult(
        outcome.answers,
        model,
        url,
        local,
        num_before=outcome.num_before,
        version=outcome.version,
        metrics=outcome.metrics,
        accuracies=outcome.scored_by,
        groups=outcome.groups,
        counts={name: c for name, c in outcome.counts.items() if name not in outcome.scored_by},
    )


HARNESS = Harness(
    name="lm_eval",
    benchmarks="FILE.yaml; with harness=lm_eval lm-eval's tasks by name",
    keys=(
        Key("num_fewshot", None, integer(0, 1000), "examples before the question", unset="the task's"),
        Key("multiturn", True, flag, "examples as turns of the chat; false: all in one message"),
        Key("num_mc", 128, integer(1, 2**20), "Monte Carlo samples of a likelihood"),
        Key("include_path", None, text, "folder of more tasks"),
        Key("gen_kwargs", None, mapping, "in place of the task's: {name: value}"),
        Key("add_bos", False, flag, "before raw texts"),
        Key("allow_code", False, flag, "run what the model wrote (HumanEval, MBPP)"),
    ),
    recognises=lambda name: name.endswith((".yaml", ".yml")),
    prepare=prepare,
    records=(f"{tasks.FOLDER}/{tasks.RECORDS}",),
)
