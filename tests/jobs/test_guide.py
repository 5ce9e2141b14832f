"""slurm/README.md says what is so: its commands compose, its tables are those of the code."""

import argparse
import re
import shlex
from pathlib import Path

import pytest
import yaml

from llada_exp.jobs.__main__ import _parser
from llada_exp.settings import conf_dir
from tests import programs
from tests.test_conf import composed

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "slurm" / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", GUIDE, re.S | re.M)
LINES = [line for block in BLOCKS for line in block.splitlines() if "hydra/launcher=slurm" in line]
LAUNCHED = [line for line in LINES if "llada_exp.evals" not in line]
EVALUATIONS = [line for line in LINES if "llada_exp.evals" in line]


def rows(title):
    """The cells of the table under a heading."""
    text = GUIDE.split(title, 1)[1].split("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", text, re.M)
    ]


@pytest.mark.parametrize("line", LAUNCHED)
def test_what_is_launched_composes_and_shows_its_batch_script(line, tmp_path):
    words = [w for w in shlex.split(line)[2:] if w != "dry_run=true"]
    dry = "dry_run=true" if "llada_exp.bench" in words else "hydra.launcher.dry_run=true"
    env = {"PYTHONPATH": str(ROOT), "PATH": "/nowhere"}
    done = programs.run(*words, dry, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --time=4:00:00" in done.stdout


@pytest.mark.parametrize("line", EVALUATIONS)
def test_evaluations_compose(line, tmp_path):
    """They are launched in tests/slurm/test_evals.py: a dry run wants a job, checkpoints and NeMo-Skills."""
    words = [word for word in shlex.split(line)[1:] if word != "-m"]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/nowhere"}
    done = programs.run(*words, "--cfg", "job", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "expname:" in done.stdout


def test_the_variables_and_defaults_are_those_of_the_launcher():
    conf = yaml.safe_load((conf_dir() / "hydra" / "launcher" / "slurm.yaml").read_text())
    told = 0
    for variable, key, default, *_ in rows("## Say once"):
        name = key.strip("`").removeprefix("hydra.launcher.")
        if name not in conf:
            continue
        value = str(conf[name])
        if variable:
            assert value.startswith(f"${{oc.env:{variable.strip('`')},"), f"{name} is {value}"
            value = value.split(",", 1)[1].rstrip("}").strip('"').replace("null", "none")
        assert default.split(";")[0].strip("`") == value, name
        told += 1
    assert told == 9


def test_every_command_of_jobs_is_told_of_and_there_is():
    (action,) = [a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)]
    assert set(re.findall(r"llada_exp\.jobs (\w+)", GUIDE)) == set(action.choices)


def test_the_predecessors_flags_have_successors_that_compose():
    flags = rows("## From the predecessor")[2:]
    assert len(flags) > 10
    for _, now in flags:
        words = " ".join(re.findall(r"`([^`]*=[^`]*)`", now)).replace("=N", "=1").split()
        composed(*[word for word in words if re.match(r"[a-z_.]+=", word)])


def test_the_last_word_of_the_batch_script_is_an_exec_of_the_server():
    """A shell that stays would take the signal, and the server would be killed without having drained."""
    script = (ROOT / "slurm" / "server.sbatch").read_text()
    last = script.strip().splitlines()[-1]
    assert last == 'exec "${PYTHON:-python}" -m llada_exp.serve place=job "$@"'
    assert "#SBATCH --signal=B:TERM@120" in script
