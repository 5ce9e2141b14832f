"""The evaluation's configuration as typed, checked values: what `conf/eval.yaml` composes to.

Every error is a ValueError that names the key, the value and what is allowed. A harness's own keys stand
under its name, by its declarations. Knows no Hydra and no HTTP: a plain mapping will do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from llada_exp import decoding_keys
from llada_exp.clients.http import KEY_VARIABLE, base_url
from llada_exp.evals.evaluation import JOB, Benchmark, EvalSettings
from llada_exp.evals.harnesses import harnesses, recognise
from llada_exp.runs.identity import config_hash
from llada_exp.runs.keys import mapping, read_keys
from llada_exp.runs.servers import NOT_THE_SERVERS, SERVER_KEYS, check_requests
from llada_exp.runs.settings import (
    TRACKING_KEYS,
    read_flag,
    read_name,
    read_tracking,
)
from llada_exp.settings import Node, ServeSettings, known_keys, validate

URL_VARIABLE, OUTPUT_VARIABLE = "LLADA_SERVER_URL", "EVAL_OUTPUT_DIR"
QUICK_PROBLEMS = 10
SAMPLING = {"temperature": 0.7, "top_p": 0.95}
"""Of requests that want several samples of a problem, where nothing is said: greedy ones would be equal."""
OWN = (
    "harness", "benchmark", "quick_test", "url", "output_dir", "expname", "max_samples", "extra_body",
    "chat_template", "concurrency", "timeout", "max_retries", "patience", "tracking", "dry_run", "resume",
    "checkpoints", "checkpoint_pattern", "checkpoint_steps", "checkpoint_step",
)  # fmt: skip


MOVED = {**decoding_keys.MOVED_OF_EVALUATION, "prompt": "builtin.prompt", "scorer": "builtin.scorer"}
"""Old spelling of a key -> the new one."""


def eval_keys() -> tuple[str, ...]:
    """Every key of conf/eval.yaml, dotted, as one may override it."""
    dotted = [f"tracking.{n}" for n in TRACKING_KEYS]
    dotted += [f"{name}.{key.name}" for name, own in harnesses().items() for key in own.keys]
    dotted += [f"{decoding_keys.DECODING}.{name}" for name in decoding_keys.OF_EVALUATIONS]
    return tuple(dict.fromkeys((*known_keys(), *OWN, *harnesses(), *dotted)))


def validate_eval(cfg: Mapping[str, Any]) -> EvalSettings:
    """The evaluation that a composed config stands for. Raises ValueError naming key, value and choices."""
    tree = Node(cfg, "", (*SERVER_KEYS, *OWN, *harnesses()), MOVED)
    own_server = {key: tree[key] for key in SERVER_KEYS if key != decoding_keys.DECODING}
    if tree["api_key_file"] is not None:  # or every request would be a 401
        raise ValueError(
            f"api_key_file is set; an evaluation and its server take the key from {KEY_VARIABLE}"
        )
    urls = _urls(tree["url"])
    quick = read_flag(tree, "quick_test")
    benchmarks = tuple(_benchmark(word, quick) for word in _words(tree["benchmark"], "benchmark"))
    harness = _harness(tree, benchmarks)
    harness_keys = _harness_keys(tree)
    server = validate({**own_server, decoding_keys.DECODING: {}}) if not urls else None
    request = _request(tree, max(b.num_samples for b in benchmarks), server)
    max_samples = _optional(tree, "max_samples", 1)
    return EvalSettings(
        name=read_name(tree, "expname"),
        harness=harness,
        harness_keys=harness_keys[harness],
        benchmarks=benchmarks,
        urls=urls,
        server=server,
        server_tree={k: v for k, v in own_server.items() if k not in NOT_THE_SERVERS},
        request=request,
        seed=tree.integer("seed", 0, 2**53),
        max_samples=QUICK_PROBLEMS if quick and max_samples is None else max_samples,
        chat_template=read_flag(tree, "chat_template"),
        concurrency=tree.integer("concurrency", 1, 65536),
        timeout=tree.number("timeout", 0.001, 7 * 86400.0),
        max_retries=tree.integer("max_retries", 0, 1000),
        patience=tree.number("patience", 0.0, 7 * 86400.0),
        checkpoints=_checkpoints(tree),
        checkpoint_pattern=tree.text("checkpoint_pattern"),
        checkpoint_steps=_steps(tree["checkpoint_steps"]),
        checkpoint_step=None
        if tree["checkpoint_step"] is None
        else tree.integer("checkpoint_step", 0, 2**53),
        tracking=read_tracking(tree.child("tracking", TRACKING_KEYS)),
        dry_run=read_flag(tree, "dry_run"),
        resume=read_flag(tree, "resume"),
        config_hash=config_hash(
            tree.tree, remote=bool(urls), of_answers=True, no_part=set(harnesses()) - {harness}
        ),
    )


def _words(value: Any, key: str) -> list[str]:
    """A list, or a text of words between commas."""
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not found or not all(isinstance(w, str) for w in found):
        raise ValueError(f"{key} is {value!r}; expected a name, or several: [a,b]")
    words = [word.strip() for word in found if word.strip()]
    if not words:
        raise ValueError(f"{key} is {value!r}; expected a name, or several: [a,b]")
    return words


def _benchmark(word: str, quick: bool) -> Benchmark:
    """`gsm8k:4` is four samples of each problem."""
    match = re.fullmatch(r"(.+?)(?::(\d+))?", word)
    assert match is not None
    count = 1 if quick or match[2] is None else int(match[2])
    if not 1 <= count <= 1024:
        raise ValueError(f"benchmark is {word!r}; expected NAME or NAME:K, with K samples from 1 to 1024")
    return Benchmark(match[1], count)


def _harness(tree: Node, benchmarks: tuple[Benchmark, ...]) -> str:
    """As named, or by what the benchmarks look like."""
    if tree["harness"] is not None:
        return tree.one_of("harness", tuple(harnesses()))
    return recognise(b.name for b in benchmarks)


def _harness_keys(tree: Node) -> dict[str, dict[str, Any]]:
    """Harness -> its own keys: of all of them, so that no mistake passes unseen."""
    found = {}
    for name, harness in harnesses().items():
        allowed = tuple(key.name for key in harness.keys)
        found[name] = read_keys(Node(tree.tree.get(name, {}), name, allowed), harness.keys)
    return found


def _urls(value: Any) -> tuple[str, ...]:
    if value is None:
        value = os.environ.get(URL_VARIABLE) or None
    if value is None:
        return ()
    urls = tuple(word if word.startswith(JOB) else base_url(word) for word in _words(value, "url"))
    if len(set(urls)) < len(urls):
        raise ValueError(f"url names {max(urls, key=urls.count)} twice")
    return urls


def _request(tree: Node, num_samples: int, server: ServeSettings | None) -> dict[str, Any]:
    """The fields that are sent with every request: those of decoding that are named, and extra_body."""
    node = tree.child(decoding_keys.DECODING, decoding_keys.OF_EVALUATIONS)
    given = (SAMPLING if num_samples > 1 else {}) | decoding_keys.request_fields(node.tree)
    check_requests(given, server)
    if num_samples > 1 and given["temperature"] == 0:
        raise ValueError(
            f"decoding.temperature is 0; with {num_samples} samples a problem all would be the same: "
            "expected above 0, or benchmark=NAME:1"
        )
    return {**given, **({} if tree["extra_body"] is None else mapping(tree, "extra_body"))}


def _optional(tree: Node, key: str, low: int) -> int | None:
    return None if tree[key] is None else tree.integer(key, low, 2**53)


def _checkpoints(tree: Node) -> str | None:
    if tree["checkpoints"] == "":
        raise ValueError("checkpoints is not set; expected a training run's folder: checkpoints=RUN_DIR")
    return tree.text("checkpoints", optional=True)


def _steps(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    steps = value if isinstance(value, list | tuple) else [value]
    if not steps or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in steps):
        raise ValueError(f"checkpoint_steps is {value!r}; expected numbers of steps: [100,200]")
    return tuple(steps)
