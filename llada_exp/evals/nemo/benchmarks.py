"""Which of NeMo-Skills' benchmarks give an answer a verdict by themselves.

Code is run in a container, and a judge is another model behind a key of its own: neither is ours to start,
and without them an answer has no verdict. A benchmark's module says it, and is read before any question is
asked. Knows NeMo-Skills' modules by their names; imports none of them.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PROBE_S = 120.0
READABLE = ("math", "multichoice", "if", "ifeval", "ifbench", "ruler")
"""Values of METRICS_TYPE whose lines hold a verdict that needs nothing but the answer."""
_NAMES = ("METRICS_TYPE", "EVAL_ARGS", "GENERATION_ARGS", "GENERATION_MODULE", "REQUIRES_SANDBOX",
          "JUDGE_ARGS", "JUDGE_PIPELINE_ARGS")  # fmt: skip
_PROBE = f"""
import importlib, json, os, sys
sys.path += [p for p in [os.environ.get("NEMO_SKILLS_EXTRA_DATASETS")] if p]
found = {{}}
for name in sys.argv[1:]:
    for place in ("nemo_skills.dataset." + name, name):
        try:
            module = importlib.import_module(place)
        except Exception:
            continue
        found[name] = {{k: getattr(module, k, None) for k in {_NAMES}}}
        break
print(json.dumps(found, default=str))
"""
_GENERATES = "nemo_skills.inference.generate"


def facts(python: Path, names: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """What each benchmark's module says of itself; without those that cannot be imported, of which
    NeMo-Skills has words of its own."""
    try:
        done = subprocess.run(
            [python, "-c", _PROBE, *names], capture_output=True, text=True, timeout=PROBE_S, check=False
        )
        tree = json.loads(done.stdout.strip().rpartition("\n")[2])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return tree if isinstance(tree, dict) else {}


def check(python: Path, names: Iterable[str]) -> None:
    """Raises ValueError naming a benchmark that needs more than its answers, and what."""
    for name, module in facts(python, names).items():
        if (needs := _needs(module)) is not None:
            raise ValueError(
                f"benchmark is {name!r}; NeMo-Skills {needs}, so its answers have no verdict here: ask for it"
                f" with `ns eval` itself, or take a benchmark of {', '.join(READABLE)}"
            )


def _needs(module: Mapping[str, Any]) -> str | None:
    """What a benchmark needs beside its answers, in words; None: nothing."""
    if judge := module.get("JUDGE_PIPELINE_ARGS") or module.get("JUDGE_ARGS"):
        return f"has a judge score it ({str(judge)[:80]})"
    arguments = f"{module.get('GENERATION_ARGS') or ''} {module.get('EVAL_ARGS') or ''}"
    if module.get("REQUIRES_SANDBOX") or re.search(r"code_execution=true|tool_modules=", arguments, re.I):
        return "runs code for it, in a sandbox"
    evaluator = re.search(r"\+\+eval_type=(\S+)", arguments)
    kinds = [module.get("METRICS_TYPE"), evaluator[1] if evaluator else None]
    for kind in kinds:
        if kind is not None and kind not in READABLE:
            return f"scores it as {kind!r} (code that is run, a judge, or another kind)"
    script = module.get("GENERATION_MODULE")
    return f"asks by a program of its own for it ({script})" if script not in (None, _GENERATES) else None
