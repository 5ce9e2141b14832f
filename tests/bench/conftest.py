"""The command line of the benchmark, and a server that answers without a model."""

import json
import os
import sys
from pathlib import Path

import pytest

from llada_exp.jobs import running_server
from tests import programs
from tests.server.conftest import FAKE, ROOT

BENCH = (sys.executable, "-m", "llada_exp.bench")


def environment(folder, **more):
    """Turns of the test's own, and no W&B key of whoever runs it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    own = {"PYTHONPATH": str(ROOT), "LLADA_TURN_DIR": str(folder / "turn"), "NETRC": str(folder / "no")}
    return {**env, **own, **more}


def bench(*arguments, cwd, timeout=240, **env):
    return programs.run("llada_exp.bench", *arguments, cwd=cwd, env=environment(cwd, **env), timeout=timeout)


@pytest.fixture(scope="session")
def fake():
    with running_server(["batch_size=4"], command=FAKE, start_timeout_s=60) as handle:
        yield handle


@pytest.fixture
def prompts(tmp_path):
    """good.jsonl, and bad.jsonl whose prompts make the engine's step raise."""
    for name, text in (("good", "hello"), ("bad", "crash now")):
        lines = [json.dumps({"prompt": f"{text} {i}", "expected_answer": "1"}) for i in range(4)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path


def lines(path: Path):
    return [json.loads(line) for line in path.read_text().splitlines()]
