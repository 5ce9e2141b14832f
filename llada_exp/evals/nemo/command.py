"""NeMo-Skills, the user's own install, run against an endpoint.

    ns eval --benchmarks=gsm8k:4 --server_type=vllm --server_address=http://HOST:PORT/v1 --model=NAME ...

NeMo-Skills (https://github.com/NVIDIA/NeMo-Skills) prompts, asks and scores; we say what to ask with, run it
(`process.py`) and read what it wrote (`results.py`). Decoding parameters go through `extra_body`,
which it passes on with server_type=vllm only: `openai` drops it without a word. Nothing of it is imported
here: it lives in an environment of its own. Knows command lines, no HTTP.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from llada_exp.settings import override_value

PROBE_S = 120.0
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+-]+")
_PROBE = (
    "import importlib.metadata as m, importlib.util as u, json;"
    "folders = u.find_spec('nemo_skills').submodule_search_locations;"
    "print(json.dumps([m.version('nemo_skills'), list(folders)[0]]))"
)
_INSTALL = (
    "NeMo-Skills has no PyPI package: in an environment of its own, pip install "
    "git+https://github.com/NVIDIA/NeMo-Skills.git 'typer<0.20' 'mcp<2', and say "
    "nemo_skills.command=/path/to/venv/bin/ns; "
    "or take harness=builtin, which needs nothing installed"
)


@dataclass(frozen=True)
class Installed:
    """command: the words that start `ns`; python: its interpreter; package: the folder nemo_skills/."""

    command: tuple[str, ...]
    version: str
    python: Path
    package: Path


@dataclass(frozen=True)
class NemoPlan:
    """What to ask, and how. None: not said, so that NeMo-Skills' own default holds (of a sampled benchmark:
    temperature 0.7, top_p 0.95), or for a decoding field the server's.

    benchmarks: name -> samples of each problem; 0 is NeMo-Skills' greedy run, one sample at temperature 0.
    address:    of the server, with or without /v1.
    seed:       sample i of every problem is asked with seed + i.
    decoding:   fields of the request, by the server's names (`llada_exp.types.DecodingParams`).
    resume:     go on in an output_dir that holds a part; problems that were answered are not asked again.
    tokenizer:  folder or hub id: NeMo-Skills then makes one failed answer of a prompt that is too long.
    extra:      further words for `ns eval`, as they are.
    """

    benchmarks: Mapping[str, int]
    address: str
    model: str
    output_dir: Path
    expname: str = "eval"
    max_samples: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tokens_to_generate: int | None = None
    seed: int = 0
    concurrency: int | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)
    resume: bool = False
    tokenizer: str | None = None
    extra: tuple[str, ...] = ()

    def outputs(self) -> dict[tuple[str, int], Path]:
        """(benchmark, sample) -> the file with its answers."""
        return {
            (name, sample): self.folder(name)
            / (f"output-rs{self.seed + sample}.jsonl" if k else "output.jsonl")
            for name, k in self.benchmarks.items()
            for sample in range(max(k, 1))
        }

    def seed_of(self, benchmark: str, sample: int) -> int:
        """The seed that a sample's requests carry; a greedy run has NeMo-Skills' own."""
        return self.seed + sample if self.benchmarks[benchmark] else 0

    def folder(self, benchmark: str) -> Path:
        return self.output_dir / "eval-results" / benchmark

    def sent(self) -> dict[str, Any]:
        """What each request is asked to be decoded with, by the server's names."""
        fields = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "max_tokens": self.tokens_to_generate,
            **self.decoding,
        }
        return {name: value for name, value in fields.items() if value is not None}


def find(command: str | None = None) -> Installed:
    """The user's NeMo-Skills: `command` (its `ns`, with a path or not), else `ns` on PATH, else beside this
    interpreter. Raises ValueError that says in one line what is missing and what to do."""
    words = shlex.split(command) if command else ["ns"]
    path = shutil.which(words[0]) if words else None
    if path is None and not command:
        path = shutil.which("ns", path=str(Path(sys.executable).parent))
    if path is None:
        missing = "there is no ns on PATH, nor beside this Python"
        if command:
            missing = f"nemo_skills.command is {command!r}; there is no such program"
        raise ValueError(f"{missing}. {_INSTALL}")
    python = _interpreter(Path(path))
    install = _ask(python) if python else None
    if python is None or install is None:
        raise ValueError(f"{path} is not NeMo-Skills: its Python has no nemo_skills. {_INSTALL}")
    _check_words((path, *words[1:]))
    if shutil.which("curl", path=search_path(python)) is None:
        raise ValueError(f"{path} waits for its server with curl, for ever where there is none; install curl")
    return Installed((path, *words[1:]), install[0], python, Path(install[1]))


@cache
def _check_words(program: tuple[str, ...]) -> None:
    """Raises ValueError where `ns eval` does not start, or would not understand us. Once for a program: it
    takes seconds."""
    environ = {**os.environ, "COLUMNS": "300", "TERM": "dumb", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            [*program, "eval", "--help"],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            env=environ,
            check=False,
        )
        text = done.stdout + done.stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        text = str(error)
    if "--output_dir" in text:
        return
    end = (text.strip().splitlines() or ["nothing"])[-1][:200]
    why = "shows --output-dir" if "--output-dir" in text else f"ends with: {end}"
    raise ValueError(
        f"`{program[0]} eval --help` shows no --output_dir, it {why}; NeMo-Skills does not work with newer"
        " versions of what it needs: in its environment, pip install 'typer<0.20' 'mcp<2'"
    )


def _interpreter(script: Path) -> Path | None:
    """The Python that runs a console script: of its first line, else the one beside it."""
    with contextlib.suppress(OSError):
        first = script.open("rb").readline().decode(errors="replace").removeprefix("#!").strip()
        if "python" in Path(first).name and Path(first).is_file():
            return Path(first)
    for folder in (script.parent, script.resolve().parent):
        for name in ("python", "python3"):
            if (folder / name).is_file():
                return folder / name
    return None


def _ask(python: Path) -> list[str] | None:
    """[version, package folder] of its nemo_skills, None where it has none."""
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_S)
        return json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def command(installed: Installed, plan: NemoPlan) -> list[str]:
    """The words of `ns eval` for a plan.

    Raises ValueError for what NeMo-Skills cannot take: it pastes its arguments into a shell line and that
    into Hydra's grammar, without quotes, so a name or a path with a space, '=' or ',' would be torn apart.
    """
    address = plan.address.rstrip("/").removesuffix("/v1") + "/v1"
    names = {
        "--benchmarks": ",".join(f"{name}:{samples}" for name, samples in plan.benchmarks.items()),
        "--server_type": "vllm",
        "--server_address": address,
        "--model": plan.model,
        "--output_dir": str(plan.output_dir.absolute()),
        "--expname": plan.expname,
        "--starting_seed": str(plan.seed),
    }
    for name, value in names.items():
        if not all(map(is_plain, value.split(",") if name == "--benchmarks" else [value])):
            key = name.removeprefix("--")
            raise ValueError(
                f"{key} is {value!r}; NeMo-Skills takes letters, digits and . _ / : @ % + - alone"
            )
    options = {
        "max_samples": plan.max_samples,
        "max_concurrent_requests": plan.concurrency,
        "inference.temperature": plan.temperature,
        "inference.top_p": plan.top_p,
        "inference.top_k": plan.top_k,
        "inference.tokens_to_generate": plan.tokens_to_generate,
        **{f"inference.extra_body.{name}": value for name, value in plan.decoding.items()},
        "server.enable_soft_fail": "True" if plan.tokenizer else None,
        "tokenizer": plan.tokenizer,
        "skip_filled": "True" if plan.resume else None,
    }
    overrides = [f"++{key}={_value(value)}" for key, value in options.items() if value is not None]
    return [*installed.command, "eval", *(f"{k}={v}" for k, v in names.items()), *overrides, *plan.extra]


def is_plain(value: str) -> bool:
    """Whether neither a shell nor Hydra sees more in it than its letters."""
    return _PLAIN.fullmatch(value) is not None


def _value(value: Any) -> str:
    """In Hydra's grammar, and quoted for the shell line that NeMo-Skills makes of its arguments."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return shlex.quote(override_value(value))


def search_path(python: Path) -> str:
    """PATH with the Python of the install first: its jobs run `python`, whichever that is."""
    return f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
