"""The command line as a newcomer meets it: help, mistakes, the ready line and the line to paste."""

import json
import os
import re
import shutil
import socket
import subprocess
import time

import pytest
import yaml

from llada_exp.jobs import running_server
from tests import programs
from tests.server.conftest import FAKE, ROOT


def run(*arguments, cwd):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return programs.run("llada_exp.serve", *arguments, cwd=cwd, env=env, timeout=60)


def test_help_is_made_for_people(tmp_path):
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    for words in ("batch_size=16 mode=batch", "mode=streaming", "model=llada_8b_instruct", "port 0"):
        assert words in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_prints_the_composed_configuration(tmp_path):
    done = run("--cfg", "job", "batch_size=3", "mode=streaming", cwd=tmp_path)
    assert done.returncode == 0
    assert {"batch_size: 3", "mode: streaming", "  source: tiny"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["batch_size=0"], "batch_size is 0; expected an integer from 1 to 4096"),
        (["mode=foo"], "mode is 'foo'; expected one of batch, streaming"),
        (["batch_sise=4"], "unknown key batch_sise; did you mean batch_size?"),
        (["+wibble=4"], "unknown key wibble; known keys: "),
        (["decoding.treshold=1"], "unknown key decoding.treshold; did you mean decoding.threshold"),
        (["port=x"], "port is 'x'; expected an integer"),
        (["model=hf"], "model.path is not set"),
        (["model=gpt"], "model is 'gpt'; expected one of dcp, diffucoder_7b_instruct, dream_7b_base"),
        (["nonsense"], "cannot read 'nonsense'; write key=value"),
        pytest.param(
            ["device=cuda", "port=0"],
            "device is 'cuda'; nvidia-smi shows no GPU here",
            marks=pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="this machine has a GPU"),
        ),
        (["device=cpu", "devices=2", "port=0"], "devices is 2, which counts GPUs, but device is 'cpu'"),
        (["host=no.such.host.invalid"], "host is 'no.such.host.invalid'; it cannot be resolved"),
    ],
)
def test_a_mistake_is_one_line_and_no_traceback(overrides, words, tmp_path):
    done = run(*overrides, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(f"port={port}", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"port is {port}; it is in use on 127.0.0.1" in done.stderr


def test_a_model_folder_that_is_not_there_is_one_line(tmp_path):
    done = run("model=hf", f"model.path={tmp_path / 'nowhere'}", "port=0", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the model does not load: ")
    assert "nowhere" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_ready_line_the_line_to_paste_the_info_file_and_the_run_folder(tmp_path):
    path = tmp_path / "server.json"
    overrides = ["mode=streaming", "batch_size=3"]
    with running_server(overrides, command=FAKE, folder=tmp_path) as server:
        ready, curl = (tmp_path / "server.log").read_text().splitlines()[:2]
        assert re.match(rf"ready: {server.url} .*mode=streaming", ready)
        done = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, timeout=30)
        answer = json.loads(done.stdout)
        assert answer["choices"][0]["message"]["content"].startswith("What is 47 + 8?")
        info = json.loads(path.read_text())
        assert info["url"] == f"http://{info['host']}:{info['port']}" == server.url
        assert info["pid"] == server.pid
        assert (info["model"], info["mode"], info["status"]) == ("llada-tiny", "streaming", "ready")
        assert len(info["instance_id"]) == 32
        assert info["started"] > 0
        assert "batch_size: 3" in (tmp_path / "run" / ".hydra" / "config.yaml").read_text()
    stopped = json.loads(path.read_text())
    assert stopped == info | {"status": "stopped"}
    assert [p.name for p in tmp_path.glob(".server.json*")] == [], "no half-written draft stays"


def test_the_server_does_not_change_directory(tmp_path):
    """A relative path of a model or a server-info file means what it says."""
    overrides = ["port=0", "server_info=here/info.json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*FAKE, *overrides], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith("ready: ")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "outputs"]
        assert (tmp_path / "here" / "info.json").is_file()
    finally:
        process.terminate()
        process.stdout.close()
        assert process.wait(20) == 0


def test_a_reader_of_the_ready_line_that_goes_does_not_end_the_server(tmp_path):
    # `python -m llada_exp.serve | head -1` closes the pipe between, or before, the two lines.
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [*FAKE, "port=0", "server_info=info.json"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    process.stdout.close()
    try:
        until = time.monotonic() + 30
        while not (tmp_path / "info.json").is_file() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_hydras_cfg_prints_what_would_be_served_and_starts_nothing(tmp_path):
    done = run("--cfg", "job", "--resolve", "batch_size=3", "mode=streaming", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"batch_size: 3", "mode: streaming", "  source: tiny"} <= set(done.stdout.splitlines())
    tree = yaml.safe_load(done.stdout).items()
    again = [f"{k}={v}" for k, v in tree if not isinstance(v, dict) and v is not None]
    assert run("--cfg", "job", "--resolve", *again, cwd=tmp_path).stdout == done.stdout


def test_who_asks_for_print_config_is_told_of_cfg(tmp_path):
    done = run("--print-config", "batch_size=3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--cfg job --resolve" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_plan_checks_the_configuration(tmp_path):
    wrong = run("--plan", "batch_size=0", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "batch_size is 0" in wrong.stderr


def test_the_plan_prints_memory_and_starts_nothing(tmp_path):
    done = run("--plan", "batch_size=16", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("weights", "K/V of a row", "largest batch_size"):
        assert word in done.stdout
    assert run("--plan", "batch_size=4096", "engine.max_positions=10000000", cwd=tmp_path).returncode == 1


def test_more_rows_than_fit_are_refused_at_the_start_and_not_by_an_out_of_memory_later(tmp_path):
    done = run("port=0", "batch_size=4096", "engine.max_positions=10000000", cwd=tmp_path)
    assert done.returncode != 0
    assert "batch_size is 4096" in done.stderr
    assert "lower batch_size or max_length" in done.stderr
