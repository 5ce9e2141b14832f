"""docs/extending.md cannot rot: its examples are applied to a copy of the repository, and it runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.evals import answers
from tests.extending import DOCUMENT, apply, bill, commands, parts

ROOT = Path(__file__).parents[1]
EXAMPLES = ("rule", "oracle", "cache", "cache_oracle", "field", "family", "harness")
COPIED = ("llada_exp", "conf", "hydra_plugins", "docs", "tests")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy with every example applied."""
    root = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", root)
    apply(root, EXAMPLES)
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The embedded model as one of the example's family."""
    folder = tmp_path_factory.mktemp("checkpoint") / "block"
    shutil.copytree(tiny_folder(), folder)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**raw, "model_type": "block_llada"}))
    return folder


def run(tree, *words):
    env = {**os.environ, "PYTHONPATH": str(tree), "EVAL_OUTPUT_DIR": str(tree / "evals")}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=200,
                          cwd=tree, env=env, check=False)  # fmt: skip


def test_every_example_is_applied_and_the_bill_is_what_they_add():
    assert {part.example for part in parts()} == set(EXAMPLES)
    assert f"<!-- table: the bill -->\n{bill()}\n" in DOCUMENT.read_text(), (
        "python -m tests.extending prints it"
    )


def test_the_goals_of_the_bill_are_kept():
    """A rule, a cache policy: one code file beside its declaration; a field: two; a family: one, and a yaml;
    a harness: its folder and a line."""
    code = {}
    for part in parts():
        code.setdefault(part.example, {})[part.path] = part.num_added
    for example in ("rule", "cache"):
        assert len(code[example]) == 2
        assert "llada_exp/types.py" in code[example]
    assert code["cache"]["llada_exp/types.py"] == 1
    assert len(code["field"]) == 2
    assert sorted(Path(path).suffix for path in code["family"]) == [".py", ".yaml"]
    line = code["harness"].pop("llada_exp/evals/harnesses.py")
    assert line == 1
    assert {str(Path(path).parent) for path in code["harness"]} == {"llada_exp/evals/sums"}


@pytest.mark.parametrize("command", commands())
def test_its_commands_run_where_the_examples_are_applied(tree, checkpoint, command):
    words = shlex.split(command.replace("FOLDER", str(checkpoint)))
    assert words[0] == "python"
    done = run(tree, *words[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(ROOT) not in done.stderr, "or it ran what is not the copy"
    if "decoding.max_nfe=20" in words:
        assert "no oracle (max_nfe=20)" in done.stdout
    elif "exact=1" in words:
        assert "gate: pass" in done.stdout
        exact, of = re.search(r"^decoding +short +(\d+) +(\d+)", done.stdout, re.M).groups()
        assert (exact, of) == ("1", "1")
    if "benchmark=sums" in words:
        assert [a.benchmark for a in answers.read(tree / "evals" / "sums" / answers.FILE)] == ["sums"] * 8


def test_the_documents_tables_get_what_is_declared(tree):
    done = run(tree, "docs/tables.py")
    assert done.returncode == 0, done.stderr
    decoding = (tree / "docs" / "decoding.md").read_text()
    assert "| `max_nfe` | from 1 |" in decoding
    assert "`sequential`, `edit`, `margin` |" in decoding
    assert "| `cache` | `none`, `prefix`, `dual`, `prompt` |" in decoding
    assert "| `sums.digits` | `2` |" in (tree / "docs" / "evaluation.md").read_text()
