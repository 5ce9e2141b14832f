"""Every command of the README, and of the pages that a newcomer goes to next, is run: those that need a
GPU, a hub or a cluster are composed. What serving.md and troubleshooting.md say is in test_docs.py."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp.jobs import running_server
from llada_exp.settings import conf_dir
from tests import programs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NEXT = ("README.md", "benchmarks.md", "decoding.md", "evaluation.md", "migrating.md", "comparison.md")
PAGES = {name: (ROOT / "docs" / name).read_text() for name in NEXT}
BENCHMARKS, MIGRATING = PAGES["benchmarks.md"], PAGES["migrating.md"]
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
BLOCKS = [m.groupdict() for text in (README, *PAGES.values()) for m in BLOCK.finditer(text)]


def lines(*marks):
    found = [line for b in BLOCKS if b["mark"] in marks for line in b["code"].strip().splitlines()]
    assert found, f"no block is marked {marks}"
    return found


def run(command, timeout=240):
    words = shlex.split(command)
    assert words[:2] == ["python", "-m"]
    return programs.run(*words[2:], timeout=timeout)


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
    """Run the lines of a mark one after the other, as somebody in `folder`, a clone, would; what they say.

    The first, and what is no program of ours alone, by a shell; others fork: imports cost six seconds each.
    """
    (folder / "conf").symlink_to(ROOT / "conf")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "LLADA_TURN_DIR": str(folder / "turn")}
    said = ""
    for line in lines(mark):
        if said and line.startswith("python -m "):
            done = programs.run(*shlex.split(line)[2:], cwd=folder, env=env)
        else:
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=240,
                                  cwd=folder, env=env, check=False)  # fmt: skip
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
    assert "tiny_short: 32 problems:" in said
    assert "p = " in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf", "outputs"]
    assert (tmp_path / "outputs" / "training" / "evals" / "latest" / "accuracy_by_step.png").exists()


def old_and_new():
    """Rows of the table of commands: what was typed, and what is typed now."""
    table = MIGRATING.partition("<!-- table: old and new -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [re.split(r" (?<!\\)\| ", row.strip("| ")) for row in table]
    return [(re.findall(r"`([^`]+)`", old), re.findall(r"`([^`]+)`", new)) for old, new in rows]


def new_commands():
    programs = ("serve", "bench", "evals")
    return sorted({c for _, new in old_and_new() for c in new if c.split()[0] in programs and "=" in c})


@pytest.mark.parametrize("command", new_commands())
def test_what_replaces_an_old_command_composes(command):
    program, *words = command.split()
    words = [word for word in words if word not in ("-m", "--plan")]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose({"evals": "eval"}.get(program, program), words, return_hydra_config=True)
    for key, _, value in (word.partition("=") for word in words):
        if key.startswith("hydra.launcher."):
            assert str(OmegaConf.select(cfg, key)) == value


REPLACED = (
    "start --local --model-path MODEL",
    "start --local --model-path MODEL --batch-size 4",
    "start --local --model-path MODEL --batch-size 8",
    "start --local --streaming --model-path MODEL",
    "start --local --model-path MODEL --batch-size 8 --max-wait-time 0.1",
    "start --local --model-path MODEL --batch-size 16 --max-wait-time 0.05",
    "start --model-path MODEL --batch-size 16 --gpus 2 --mem 128G --time 8:00:00",
    "start --local --dcp-path /path/to/checkpoint.dcp --base-model MODEL",
    "start --dcp-path /path/to/checkpoint.dcp --base-model MODEL --batch-size 8",
    "export ACCOUNT=your_slurm_account",
    "--gpus 1 --mem 64G",
    *(f"--batch-size {size}" for size in (2, 4, 8, 16, 32)),
    *(f"--max-wait-time {seconds}" for seconds in (0.05, 0.1, 0.2)),
    "python xp/llada_api/test_batch_server.py",
    "python xp/nemo-skills/eval_llada.py --quick-test",
    "python eval_llada.py --quick-test --max-samples 32",
    "curl http://localhost:8000/health",
    "curl http://localhost:8000/batch/stats",
    'watch -n 1 "curl -s http://localhost:8000/batch/stats \\| jq"',
    "tail -f /path/to/server/logs",
    "nvidia-smi",
    "nvidia-smi -l 1",
    'python3 -c "import fastapi, uvicorn, torch, transformers"',
    "ls -la /path/to/your/model",
)
"""All that the page that this project replaces has a reader type."""


def test_every_command_of_the_page_that_this_replaces_has_a_row():
    told = {old for olds, new in old_and_new() for old in olds}
    assert not set(REPLACED) - told


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


def test_the_readme_is_a_page():
    """Of at most 200 lines; what a reader looks things up in is in docs/."""
    assert len(README.splitlines()) <= 200


def test_the_note_about_machines_without_a_gpu_stands_before_the_commands():
    """Or it is read after gigabytes of CUDA were fetched."""
    assert README.index("No GPU?") < README.index("<!-- command: serve -->")


def test_the_picture_of_the_layout_has_every_folder():
    picture = next(b["code"] for b in BLOCKS if not b["language"] and "llada_exp/" in b["code"])
    names = set(re.findall(r"^(\w+)/", picture, re.M))
    done = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    tops = {path.partition("/")[0] for path in done.stdout.splitlines() if "/" in path} or {
        path.name for path in ROOT.iterdir() if path.is_dir()
    } & names
    assert {top for top in tops if not top.startswith(".")} == names


def test_relative_links_lead_somewhere():
    for folder, text in ((ROOT, README), *((ROOT / "docs", page) for page in PAGES.values())):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]+)?\)", text):
            assert (folder / target).exists(), target
