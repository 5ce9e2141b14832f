"""Every command of the README is run: those that need a GPU, a hub or a cluster are composed."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llada_exp.jobs import running_server

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text()
IN_NOTEBOOKS = {path.name for path in (ROOT / "notebooks").iterdir()} - {"__pycache__"}
KINDS = (
    "command: serve",
    "command: test",
    "compose",
    "server",
    "python",
    "run",
    "run: help",
    "measure",
    "evaluate",
)
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.S | re.M)
BLOCKS = [m.groupdict() for m in BLOCK.finditer(README)]


def lines(*marks):
    found = [line for b in BLOCKS if b["mark"] in marks for line in b["code"].strip().splitlines()]
    assert found, f"the README has no block marked {marks}"
    return found


def run(command, timeout=240):
    words = shlex.split(command)
    assert words[0] == "python"
    return subprocess.run(
        [sys.executable, *words[1:]], capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False
    )


def test_every_shell_and_python_block_says_how_it_is_tested():
    for block in BLOCKS:
        if block["language"]:
            assert block["mark"] in KINDS, block["code"]


@pytest.mark.parametrize("command", lines("compose"))
def test_commands_compose(command):
    done = run(f"{command} --cfg job")
    assert done.returncode == 0, done.stderr
    for key, _, value in (word.partition("=") for word in shlex.split(command)[3:] if "=" in word):
        value = value.strip("'")
        if key == "url":
            assert re.split(r"[\[\],]", value)[-1] in done.stdout
        elif key not in ("model", "decoding", "experiment", "hydra/launcher"):
            assert value in done.stdout, f"{key}={value} did not arrive"


def follow(mark, folder):
    """Run the lines of a mark one after the other, as somebody in `folder`, a clone, would; what they say."""
    (folder / "conf").symlink_to(ROOT / "conf")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LLADA_TURN_DIR": str(folder / "turn")}
    said = ""
    for line in lines(mark):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=240, cwd=folder,
                              env=env, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        said += done.stdout
    return said


def test_from_a_clone_to_a_notebook_of_ones_own_sweep(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    follow("measure", tmp_path)
    assert (tmp_path / "outputs" / "mine.png").stat().st_size > 10_000
    assert "outputs" in (tmp_path / "outputs" / "mine.ipynb").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "notebooks", "outputs", "turn"]
    assert {p.name for p in (tmp_path / "notebooks").iterdir()} - {"__pycache__"} == IN_NOTEBOOKS
    for name, count in (("mine", 4), (next((tmp_path / "outputs" / "bench").glob("2*")).name, 1)):
        patterns = re.findall(r"wandb sync (outputs/bench/NAME/\S*-\*)", BENCHMARKS)
        runs = {path for pattern in patterns for path in tmp_path.glob(pattern.replace("NAME", name))}
        assert len(runs) == count, "the paths to upload are those that there are"


def test_the_evaluations_run_one_after_the_other(tmp_path):
    said = follow("evaluate", tmp_path)
    assert "tiny_short: 64 problems:" in said
    assert "p = " in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "outputs", "turn"]
    assert (tmp_path / "outputs" / "training" / "evals" / "latest" / "accuracy_by_step.png").exists()


def old_and_new():
    table = README.partition("<!-- old and new -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    return [new for row in table for new in re.findall(r"`([^`]+)`", row.split(" | ")[1])]


@pytest.mark.parametrize("command", [c for c in old_and_new() if c.startswith(("serve ", "evals "))])
def test_what_replaces_an_old_command_composes(command):
    done = run(f"python -m llada_exp.{command.replace(' -m ', ' ')} --cfg job")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", lines("run", "run: help"))
def test_commands_run(command):
    done = run(command)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_python_blocks_run_and_print_right_answers(capsys):
    for block in BLOCKS:
        if block["language"] == "python":
            exec(compile(block["code"], "README.md", "exec"), {})
    assert "#### 55" in capsys.readouterr().out


def test_the_pasted_line_and_the_other_requests_are_answered():
    with running_server() as server:
        printed = server.log.read_text()
        assert server.url in printed
        pasted = next(line for line in printed.splitlines() if line.startswith("curl "))
        assert "#### 55" in shell(pasted)
        for line in lines("server"):
            line = line.replace("http://127.0.0.1:8000", server.url)
            answer = shell(line.replace("python ", f"{sys.executable} ", 1))
            assert answer
            assert '"error"' not in answer


def shell(command):
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("mark", "extra", "program"),
    [("command: serve", "serve", "llada_exp.serve"), ("command: test", "dev", "pytest -n 2")],
)
def test_the_two_commands_install_what_the_package_declares(mark, extra, program):
    assert lines(mark) == [
        f"python3 -m venv .venv && .venv/bin/pip install -q torch==2.13.0 -e '.[{extra}]' && "
        f".venv/bin/python -m {program}"
    ]


def test_the_picture_of_the_layout_has_every_room():
    picture = next(b["code"] for b in BLOCKS if not b["language"] and "llada_exp/" in b["code"])
    names = re.findall(r"[\w.]+\.py|\w+/", picture)
    for name in names:
        assert list(ROOT.glob(f"**/{name.rstrip('/')}")), f"{name} is in the picture only"
    rooms = {path.name + "/" for path in (ROOT / "llada_exp").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(names)


def test_relative_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
