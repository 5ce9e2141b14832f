"""What is installed: a built wheel serves, with its configuration and the embedded model inside."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_conf_and_the_embedded_model(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"llada_exp/conf/{path.relative_to(ROOT / 'conf')}" in names
    assert "llada_exp/tiny/weights/model.safetensors" in names
    assert "hydra_plugins/llada_sweeper.py" in names
    assert "hydra_plugins/llada_exp_slurm.py" in names, "hydra/launcher=slurm would name an unknown class"
    assert not [name for name in names if name.startswith(("tests/", "conf/"))]


def test_the_wheel_serves_from_anywhere(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import llada_exp, sys; from llada_exp import load_model; "
        "print(llada_exp.__file__); print(load_model().shape.num_parameters)"
    )
    env = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    run = {"capture_output": True, "text": True, "cwd": tmp_path, "env": env, "check": False}
    loaded = subprocess.run([sys.executable, "-c", code], **run)
    assert str(tmp_path) in loaded.stdout, loaded.stderr
    composed = subprocess.run(
        [sys.executable, "-m", "llada_exp.serve", "--cfg", "job", "batch_size=3"], **run
    )
    assert "batch_size: 3" in composed.stdout, composed.stderr
    assert "source: tiny" in composed.stdout
    planned = subprocess.run(
        [sys.executable, "-m", "llada_exp.bench", "-m", "batch_size=2,3", "dry_run=true"], **run
    )
    assert "2 points, 2 servers" in planned.stdout, planned.stderr
