"""The lm_eval harness: lm-eval's tasks, by name or by a yaml of one's own, on a model or an endpoint.

    outcome = run_lm_eval(["arc_easy", "conf/lm_eval/tiny_choice.yaml"], model=load_model(), folder=folder)

With a model in this process every kind of task runs: likelihoods by LLaDA's Monte Carlo estimate, texts by
the engine. With endpoints texts alone run, for HTTP gives no likelihoods. lm-eval itself is imported when
it is needed, so that the package works without. Nothing is uploaded; a task over local files runs offline.

Files in <folder>/lm_eval/: records.jsonl, what each request came to, found again by a later run;
results.json, lm-eval's own results; samples_TASK.jsonl, its samples.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from llada_exp.checkpoints import LoadedModel
from llada_exp.clients.pool import Pool
from llada_exp.evals.answers import Answer
from llada_exp.evals.lm import results as lm_results
from llada_exp.evals.lm.generate import OverHttp
from llada_exp.evals.lm.records import Records
from llada_exp.evals.result import RequestCounts
from llada_exp.runs.files import write_whole
from llada_exp.validation import nearest

GENERATES = "generate_until"
FOLDER, RECORDS = "lm_eval", "records.jsonl"


@dataclass(frozen=True)
class TaskOutcome:
    """answers: of tasks with right and wrong; metrics: task or group -> metric -> value, stderr, n;
    scored_by: task -> the metric that its answers' verdicts are; version: of lm-eval; num_before: requests
    that an earlier run had answered; counts: of the requests of each task; num_cut: of all of them, those
    whose prompt lost its start, too long for a row; groups: a group's tasks and groups."""

    answers: list[Answer]
    metrics: lm_results.TaskMetrics
    scored_by: dict[str, str] = field(default_factory=dict)
    version: str = ""
    num_before: int = 0
    counts: dict[str, RequestCounts] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)

    @property
    def num_cut(self) -> int:
        return sum(counts.cut_to_fit for counts in self.counts.values())


def require() -> str:
    """lm-eval's version. Raises ValueError where it is not installed."""
    try:
        import lm_eval  # noqa: F401

        return metadata.version("lm_eval")
    except (ImportError, metadata.PackageNotFoundError):
        raise ValueError(
            "harness is lm_eval; lm-eval is not installed: pip install 'llada_exp[eval]'"
        ) from None


def run_lm_eval(
    tasks: Sequence[str],
    *,
    folder: Path,
    model: LoadedModel | None = None,
    pool: Callable[[], Pool] | None = None,
    model_name: str = "llada",
    concurrency: int = 64,
    request: Mapping[str, Any] | None = None,
    gen_kwargs: Mapping[str, Any] | None = None,
    limit: int | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool = False,
    multiturn: bool = True,
    include_path: str | None = None,
    allow_code: bool = False,
    **options: Any,
) -> TaskOutcome:
    """Run tasks, and keep what came in `folder`.

    model, or `pool`, which makes a pool of endpoints: one of the two.
    request:     decoding fields that the user named; they take the place of the tasks' own arguments.
    gen_kwargs:  generation arguments in place of the tasks', in lm-eval's words.
    limit:       documents of each task, the first ones. num_fewshot: None = the task's.
    multiturn:   with a chat template, examples are turns of the chat; else all is one message.
    allow_code:  run tasks that execute what the model wrote (HumanEval, MBPP).
    options:     of `LLaDALM`: num_mc, mc_seed, preset, batch_size ...

    Raises ValueError naming the benchmark or argument at fault; ServersGone and Refused of endpoints.
    """
    version = require()
    from lm_eval import simple_evaluate

    from llada_exp.evals.lm.model import LLaDALM

    if (model is None) == (pool is None):
        raise ValueError("harness is lm_eval; give a model or a pool of endpoints, one of the two")
    logging.getLogger("lm_eval").setLevel(logging.WARNING)
    _seed()
    loaded, manager = _load(tasks, include_path)
    kinds = {name: task.OUTPUT_TYPE for name, task in loaded["tasks"].items()}
    if model is None:
        _check_texts_alone(kinds)
    lm_folder = folder / FOLDER
    records = Records(lm_folder / RECORDS)
    lm = LLaDALM(
        model,
        generator=OverHttp(pool, model_name, concurrency, request) if pool else None,
        name=model_name if pool else None,
        check_greedy=any(map(_needs_greedy, loaded["tasks"].values())),
        records=records,
        question=lambda name, doc: _question(loaded["tasks"][name])(doc),
        **options,
        **(request or {}),
    )
    results: dict[str, Any] = simple_evaluate(
        lm,
        task_manager=manager,
        log_samples=True,
        tasks=list(tasks),
        gen_kwargs=dict(gen_kwargs) if gen_kwargs else None,
        limit=limit,
        num_fewshot=num_fewshot,
        apply_chat_template=apply_chat_template,
        fewshot_as_multiturn=apply_chat_template and multiturn,
        confirm_run_unsafe_code=allow_code,
    )
    results.pop("pretty_env_info", None)  # what machine this is, at length
    samples = results.pop("samples")
    _write(lm_folder, results, samples)
    answers = [
        answer
        for name, task in loaded["tasks"].items()
        for answer in lm_results.answers(name, samples[name], records, _question(task), lm.mc)
    ]
    by = {name: lm_results.scored_by(task_samples) for name, task_samples in samples.items()}
    return TaskOutcome(
        answers=answers,
        metrics=lm_results.metrics(results),
        scored_by={name: lm_results.label(f"{b[1]},{b[0]}") for name, b in by.items() if b},
        version=version,
        num_before=records.num_before,
        counts={name: records.counts(name) for name in loaded["tasks"]},
        groups={name: parts for name, parts in results.get("group_subtasks", {}).items() if parts},
    )


def _seed() -> None:
    """As lm-eval does before it loads tasks, which some shuffle then."""
    import numpy as np

    random.seed(0)
    np.random.seed(1234)


def _load(tasks: Sequence[str], include_path: str | None) -> tuple[dict[str, Any], Any]:
    """lm-eval's tasks and groups, and a manager that gives them without loading them twice."""
    from lm_eval.tasks import TaskManager

    class Loaded(TaskManager):
        def load(self, task_list: Any) -> Any:
            return loaded

    if include_path is not None and not Path(include_path).is_dir():
        raise ValueError(f"lm_eval.include_path is {include_path!r}; expected a folder of tasks")
    names = [task for task in tasks if not _is_file(task)]
    options: dict[str, Any] = {"include_path": include_path}
    manager = TaskManager(include_defaults=False, **options)
    if set(names) - set(manager.all_tasks):  # lm-eval's own tasks are thousands of files to read
        manager = TaskManager(**options)
    for name in names:
        if name not in manager.all_tasks:
            guess = nearest(name, manager.all_tasks)
            hint = f"did you mean {guess}?" if guess else "`lm-eval ls tasks` lists them"
            raise ValueError(f"benchmark is {name!r}; lm-eval has no such task: {hint}")
    specs = [_local(task) if _is_file(task) else task for task in tasks]
    loaded = manager.load(specs)
    return loaded, Loaded(include_defaults=False, **options)


def _is_file(task: str) -> bool:
    return task.endswith((".yaml", ".yml"))


def _local(task: str) -> dict[str, Any] | str:
    """A yaml's task; its data files are looked for beside it, too. Raises ValueError naming the file."""
    from lm_eval.tasks._yaml_loader import load_yaml

    path = Path(task).expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"benchmark is {task!r}; there is no such file")
    try:
        config = load_yaml(path, resolve_func=True, recursive=True)
    except Exception as error:  # yaml's errors, and whatever a !function's module raises
        raise ValueError(f"{task}: cannot be read as a task of lm-eval ({error})") from None
    if not isinstance(config, dict) or not isinstance(config.get("task", config.get("group")), str | list):
        raise ValueError(f"{task}: has no task: NAME; expected a task of lm-eval")
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    if files is None:
        return str(path)
    config["dataset_kwargs"] = {**config["dataset_kwargs"], "data_files": _beside(files, path.parent)}
    return config


def _beside(files: Any, folder: Path) -> Any:
    if isinstance(files, Mapping):
        return {split: _beside(file, folder) for split, file in files.items()}
    if isinstance(files, list):
        return [_beside(file, folder) for file in files]
    return str(folder / files) if isinstance(files, str) and (folder / files).is_file() else files


def _check_texts_alone(kinds: Mapping[str, str]) -> None:
    for name, kind in kinds.items():
        if kind != GENERATES:
            raise ValueError(
                f"harness lm_eval with url: task {name} needs likelihoods, which no HTTP endpoint of ours "
                "gives: leave url out and give model=..."
            )


def _needs_greedy(task: Any) -> bool:
    """Whether a metric asks if a continuation is the greedy one."""
    return task.OUTPUT_TYPE == "loglikelihood" or (
        task.OUTPUT_TYPE == "multiple_choice" and "exact_match" in getattr(task, "_metric_fn_list", {})
    )


def _question(task: Any) -> Callable[[Mapping[str, Any]], str | None]:
    def question(doc: Mapping[str, Any]) -> str | None:
        text = task.doc_to_text(doc)
        return text if isinstance(text, str) else None

    return question


def _write(folder: Path, results: Mapping[str, Any], samples: Mapping[str, Sequence[Any]]) -> None:
    from lm_eval.utils import handle_non_serializable

    def text(tree: Any, **layout: Any) -> str:
        line = json.dumps(tree, default=handle_non_serializable, ensure_ascii=False, **layout) + "\n"
        return line.encode(errors="backslashreplace").decode()  # half a surrogate pair, as JSON spells it

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "results.json", text(results, indent=2))
    for name, task_samples in samples.items():
        safe = name.replace("/", "__")
        write_whole(folder / f"samples_{safe}.jsonl", "".join(text(sample) for sample in task_samples))
