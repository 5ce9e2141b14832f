"""The evaluation's configuration as typed, checked values: what `conf/eval.yaml` composes to.

Every error is a ValueError that names the key, the value and what is allowed. Knows no Hydra, no HTTP
and no harness's inside: a plain mapping will do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llada_exp.clients.http import KEY_VARIABLE, base_url
from llada_exp.evals import problems
from llada_exp.runs.identity import config_hash
from llada_exp.runs.servers import NOT_THE_SERVERS, SERVER_KEYS
from llada_exp.runs.settings import (
    TRACKING_KEYS,
    Tracking,
    read_flag,
    read_name,
    read_tracking,
)
from llada_exp.scoring import SCORERS
from llada_exp.settings import Node, ServeSettings, known_keys, unknown_key_message, validate
from llada_exp.types import DECODING_FIELDS, DecodingParams

BUILTIN, NEMO_SKILLS, LM_EVAL = HARNESSES = ("builtin", "nemo_skills", "lm_eval")
URL_VARIABLE, OUTPUT_VARIABLE = "LLADA_SERVER_URL", "EVAL_OUTPUT_DIR"
DECODING = tuple(n for n in DECODING_FIELDS if n not in ("max_tokens", "seed", "stop", "ban_ids", "trace"))
"""Fields of every request's body that are keys here; null = not sent. max_tokens is `tokens_to_generate`."""
NEMO_KEYS = ("command", "args", "tokens_to_generate")
LM_EVAL_KEYS = ("num_fewshot", "multiturn", "num_mc", "include_path", "gen_kwargs", "add_bos", "allow_code")
QUICK_PROBLEMS = 10
JOB = "job:"
"""A url of this beginning is the endpoint of a SLURM job, by id or by the path of its file."""
SAMPLING = {"temperature": 0.7, "top_p": 0.95}
"""Of requests that want several samples of a problem, where nothing is said: greedy ones would be equal."""
OWN = (
    "harness", "benchmark", "quick_test", "url", "output_dir", "expname", "max_samples", "tokens_to_generate",
    *DECODING, "extra_body", "prompt", "chat_template", "scorer", "concurrency", "timeout", "max_retries",
    "patience", "tracking", "dry_run", "resume", "checkpoints", "checkpoint_pattern", "checkpoint_steps",
    "checkpoint_step", "nemo_skills", "lm_eval",
)  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """name: as the harness knows it; num_samples: answers asked for each problem."""

    name: str
    num_samples: int

    @property
    def label(self) -> str:
        return problems.benchmark_name(self.name)


@dataclass(frozen=True)
class EvalSettings:
    """One evaluation. urls: endpoints that run already, `job:12` among them, () for a server of our own;
    server: what it is started with; request: fields of every request's body; the others as conf/eval.yaml
    explains them."""

    name: str
    harness: str
    benchmarks: tuple[Benchmark, ...]
    urls: tuple[str, ...]
    server: ServeSettings | None
    server_tree: Mapping[str, Any]
    request: Mapping[str, Any]
    seed: int
    max_samples: int | None
    prompt: str
    chat_template: bool
    scorer: str
    concurrency: int
    timeout: float
    max_retries: int
    patience: float
    checkpoints: str | None
    checkpoint_pattern: str
    checkpoint_steps: tuple[int, ...] | None
    checkpoint_step: int | None
    nemo_skills: Mapping[str, Any]
    lm_eval: Mapping[str, Any]
    tracking: Tracking
    dry_run: bool
    resume: bool
    config_hash: str

    @property
    def num_samples(self) -> int:
        return max(b.num_samples for b in self.benchmarks)


def eval_keys() -> tuple[str, ...]:
    """Every key of conf/eval.yaml, dotted, as one may override it."""
    dotted = [f"tracking.{n}" for n in TRACKING_KEYS]
    dotted += [f"nemo_skills.{n}" for n in NEMO_KEYS] + [f"lm_eval.{n}" for n in LM_EVAL_KEYS]
    return (*known_keys(), *OWN, *dotted)


def validate_eval(cfg: Mapping[str, Any]) -> EvalSettings:
    """The evaluation that a composed config stands for. Raises ValueError naming key, value and choices."""
    for key in cfg:
        if key not in SERVER_KEYS and key not in OWN:
            raise ValueError(unknown_key_message(str(key), [*SERVER_KEYS, *OWN]))
    tree = Node(cfg, "", (*SERVER_KEYS, *OWN))
    own_server = {key: tree[key] for key in SERVER_KEYS}
    if tree["api_key_file"] is not None:  # or every request would be a 401
        raise ValueError(
            f"api_key_file is set; an evaluation and its server take the key from {KEY_VARIABLE}"
        )
    urls = _urls(tree["url"])
    quick = read_flag(tree, "quick_test")
    benchmarks = tuple(_benchmark(word, quick) for word in _words(tree["benchmark"], "benchmark"))
    harness = _harness(tree, benchmarks)
    server = validate(own_server) if not urls else None
    request = _request(tree, max(b.num_samples for b in benchmarks), server)
    max_samples = _optional(tree, "max_samples", 1)
    return EvalSettings(
        name=read_name(tree, "expname"),
        harness=harness,
        benchmarks=benchmarks,
        urls=urls,
        server=server,
        server_tree={k: v for k, v in own_server.items() if k not in NOT_THE_SERVERS},
        request=request,
        seed=tree.integer("seed", 0, 2**53),
        max_samples=QUICK_PROBLEMS if quick and max_samples is None else max_samples,
        prompt=problems.check_prompt(tree["prompt"]),
        chat_template=read_flag(tree, "chat_template"),
        scorer=tree.one_of("scorer", SCORERS),
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
        nemo_skills=_nemo(tree.child("nemo_skills", NEMO_KEYS)),
        lm_eval=_lm_eval(tree.child("lm_eval", LM_EVAL_KEYS)),
        tracking=read_tracking(tree.child("tracking", TRACKING_KEYS)),
        dry_run=read_flag(tree, "dry_run"),
        resume=read_flag(tree, "resume"),
        config_hash=config_hash(tree.tree, remote=bool(urls), of_answers=True),
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
        return tree.one_of("harness", HARNESSES)
    found = {_harness_of(b.name) for b in benchmarks}
    if len(found) > 1:
        names = ", ".join(b.name for b in benchmarks)
        raise ValueError(f"benchmark is {names}; these are of several harnesses ({', '.join(sorted(found))})")
    return found.pop()


def _harness_of(name: str) -> str:
    if problems.is_builtin(name):
        return BUILTIN
    return LM_EVAL if name.endswith((".yaml", ".yml")) else NEMO_SKILLS


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
    """The decoding fields that are sent, checked one by one; contradictions between them are the server's
    to judge."""
    given = {name: tree[name] for name in DECODING if tree[name] is not None}
    if num_samples > 1:
        given = {name: value for name, value in SAMPLING.items() if tree[name] is None} | given
    if tree["tokens_to_generate"] is not None:
        given["max_tokens"] = tree["tokens_to_generate"]
    for name, value in given.items():
        try:
            DecodingParams(**{name: value})
        except ValueError as error:
            raise ValueError(str(error).replace("max_tokens", "tokens_to_generate")) from None
    if num_samples > 1 and given["temperature"] == 0:
        raise ValueError(
            f"temperature is 0; with {num_samples} samples a problem all would be the same: "
            "expected above 0, or benchmark=NAME:1"
        )
    if given.get("cfg_scale", 0) > 0 and server is not None and server.batch_size < 2:
        raise ValueError("batch_size is 1; cfg_scale above 0 needs at least 2 rows")
    return {**given, **_mapping(tree, "extra_body")}


def _mapping(tree: Node, key: str) -> dict[str, Any]:
    value = {} if tree[key] is None else tree[key]
    if not isinstance(value, Mapping):
        raise ValueError(f"{tree.place}{key} is {value!r}; expected {{name: value}} or null")
    return {str(name): own for name, own in value.items()}


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


def _nemo(node: Node) -> dict[str, Any]:
    node.text("command", optional=True)
    node.integer("tokens_to_generate", 1, 2**20)
    args = node["args"]
    if not isinstance(args, list | tuple) or not all(isinstance(a, str) for a in args):
        raise ValueError(f"nemo_skills.args is {args!r}; expected words for `ns eval`: ['++key=value']")
    return dict(node.tree)


def _lm_eval(node: Node) -> dict[str, Any]:
    if node["num_fewshot"] is not None:
        node.integer("num_fewshot", 0, 1000)
    node.integer("num_mc", 1, 2**20)
    for flag in ("multiturn", "add_bos", "allow_code"):
        read_flag(node, flag)
    node.text("include_path", optional=True)
    return {**node.tree, "gen_kwargs": _mapping(node, "gen_kwargs")}
