"""The evaluation's configuration as typed, checked values: what `conf/eval.yaml` composes to.

Every error is a ValueError that names the key, the value and what is allowed. A harness's own keys stand
under its name, by its declarations. Knows no Hydra and no HTTP: a plain mapping will do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Any

from llada_exp import decoding_keys
from llada_exp.clients.http import KEY_VARIABLE, base_url
from llada_exp.evals.evaluation import JOB, Benchmark, EvalSettings
from llada_exp.evals.harnesses import harnesses, recognise
from llada_exp.runs.identity import config_hash
from llada_exp.runs.keys import mapping, one_of, read_keys
from llada_exp.runs.servers import NOT_THE_SERVERS, SERVER_KEYS, check_requests
from llada_exp.runs.settings import TRACKING_KEYS
from llada_exp.settings import ServeSettings, serve_keys, validate
from llada_exp.validation import Flag, FolderName, Keys, between, check_keys, read_fields, read_key

URL_VARIABLE, OUTPUT_VARIABLE = "LLADA_SERVER_URL", "EVAL_OUTPUT_DIR"
QUICK_PROBLEMS = 10
SAMPLING = {"temperature": 0.7, "top_p": 0.95}
"""Of requests that want several samples of a problem, where nothing is said: greedy ones would be equal."""
KEYS = (
    "harness", "benchmark", "quick_test", "url", "output_dir", "expname", "max_samples", "extra_body",
    "chat_template", "concurrency", "timeout", "max_retries", "patience", "tracking", "dry_run", "resume",
    "checkpoints", "checkpoint_pattern", "checkpoint_steps", "checkpoint_step",
)  # fmt: skip


MOVED = {**decoding_keys.MOVED_OF_EVALUATION, "prompt": "builtin.prompt", "scorer": "builtin.scorer"}
"""Old spelling of a key -> the new one."""


def eval_keys() -> tuple[str, ...]:
    """Every key of conf/eval.yaml, dotted, as one may override it."""
    dotted = [f"tracking.{n}" for n in TRACKING_KEYS]
    dotted += [f"{name}.{key.name}" for name, harness in harnesses().items() for key in harness.keys]
    dotted += [f"{decoding_keys.DECODING}.{name}" for name in decoding_keys.OF_EVALUATIONS]
    return tuple(dict.fromkeys((*serve_keys(), *KEYS, *harnesses(), *dotted)))


def validate_eval(cfg: Mapping[str, Any]) -> EvalSettings:
    """The evaluation that a composed config stands for. Raises ValueError naming key, value and choices."""
    tree = check_keys(cfg, (*SERVER_KEYS, *KEYS, *harnesses()), moved=MOVED)
    server_tree = {key: tree[key] for key in SERVER_KEYS if key != decoding_keys.DECODING}
    if tree["api_key_file"] is not None:  # or every request would be a 401
        raise ValueError(
            f"api_key_file is set; an evaluation and its server take the key from {KEY_VARIABLE}"
        )
    urls = _urls(tree["url"])
    quick = read_key(tree, "quick_test", Flag)
    benchmarks = tuple(_benchmark(word, quick) for word in _words(tree["benchmark"], "benchmark"))
    harness = _harness(tree, benchmarks)
    # Keys of all harnesses are read, so that no mistake passes unseen.
    harness_keys = {name: read_keys(tree.get(name, {}), name, h.keys) for name, h in harnesses().items()}
    server = validate({**server_tree, decoding_keys.DECODING: {}}) if not urls else None
    request = _request(tree, max(b.num_samples for b in benchmarks), server)
    if tree["checkpoints"] == "":
        raise ValueError("checkpoints is not set; expected a training run's folder: checkpoints=RUN_DIR")
    max_samples = read_key(tree, "max_samples", Annotated[int, between(1, 2**53)] | None)
    no_part = set(harnesses()) - {harness}
    return read_fields(
        EvalSettings,
        tree,
        name=read_key(tree, "expname", FolderName),
        harness=harness,
        harness_keys=harness_keys[harness],
        benchmarks=benchmarks,
        urls=urls,
        server=server,
        server_tree={k: v for k, v in server_tree.items() if k not in NOT_THE_SERVERS},
        request=request,
        max_samples=QUICK_PROBLEMS if quick and max_samples is None else max_samples,
        config_hash=config_hash(tree, remote=bool(urls), of_answers=True, no_part=no_part),
    )


def _words(value: Any, key: str) -> list[str]:
    """A list, or a text of words between commas."""
    items = value.split(",") if isinstance(value, str) else value
    if isinstance(items, list | tuple) and all(isinstance(item, str) for item in items):
        words = [item.strip() for item in items if item.strip()]
        if words:
            return words
    raise ValueError(f"{key} is {value!r}; expected a name, or several: [a,b]")


def _benchmark(word: str, quick: bool) -> Benchmark:
    """`gsm8k:4` is four samples of each problem."""
    match = re.fullmatch(r"(.+?)(?::(\d+))?", word)
    assert match is not None
    count = 1 if quick or match[2] is None else int(match[2])
    if not 1 <= count <= 1024:
        raise ValueError(f"benchmark is {word!r}; expected NAME or NAME:K, with K samples from 1 to 1024")
    return Benchmark(match[1], count)


def _harness(tree: Keys, benchmarks: tuple[Benchmark, ...]) -> str:
    """As named, or by what the benchmarks look like."""
    return read_key(tree, "harness", one_of(*harnesses()) | None) or recognise(b.name for b in benchmarks)


def _urls(value: Any) -> tuple[str, ...]:
    if value is None:
        value = os.environ.get(URL_VARIABLE) or None
    if value is None:
        return ()
    urls = tuple(word if word.startswith(JOB) else base_url(word) for word in _words(value, "url"))
    if len(set(urls)) < len(urls):
        raise ValueError(f"url names {max(urls, key=urls.count)} twice")
    return urls


def _request(tree: Keys, num_samples: int, server: ServeSettings | None) -> dict[str, Any]:
    """The fields that are sent with every request: those of decoding that are named, and extra_body."""
    keys = tree.child(decoding_keys.DECODING, decoding_keys.OF_EVALUATIONS)
    request = (SAMPLING if num_samples > 1 else {}) | decoding_keys.request_fields(keys)
    check_requests(request, server)
    if num_samples > 1 and request["temperature"] == 0:
        raise ValueError(
            f"decoding.temperature is 0; with {num_samples} samples a problem all would be the same: "
            "expected above 0, or benchmark=NAME:1"
        )
    return request | (read_key(tree, "extra_body", mapping | None) or {})
