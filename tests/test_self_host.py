"""The server as NeMo-Skills hosts it: its words become ours, and the server has the name that it asks for."""

import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from llada_exp import self_host
from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.self_host import words
from tests import programs
from tests.test_conf import composed

ROOT = Path(__file__).parents[1]
SHIM = [sys.executable, "-m", "llada_exp.self_host"]


def free_port():
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return own.getsockname()[1]


def answered(url, process):
    """As NeMo-Skills waits: any answer to PUT will do."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            return httpx.put(url, timeout=60)
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError(f"no answer; exit code {process.poll()}")


def test_the_tiny_model_is_served_on_the_port_and_answers_a_chat(tmp_path):
    port = free_port()
    arguments = f"--model tiny --num_gpus 0 --num_nodes 1 --port {port} --batch_size 2".split()
    with subprocess.Popen([*SHIM, *arguments, f"hydra.run.dir={tmp_path}"], cwd=ROOT) as process:
        url = f"http://localhost:{port}"
        answered(url, process)
        body = {"model": "tiny", "messages": [{"role": "user", "content": "2 + 3 ="}], "max_tokens": 32}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"]
        assert httpx.get(f"{url}/batch/stats").json()["max_batch_size"] == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, "signals reach the server itself"


def test_what_is_documented_is_what_nemo_skills_runs():
    """It joins `python3`, the entrypoint and its own words, and asks by the client of `server_type`: it has
    none for `generic`."""
    page = (ROOT / "docs" / "migrating.md").read_text().replace("\\\n", " ")
    help_text = (self_host.__doc__ or "").replace("\\\n", " ")
    for text in (page, help_text):
        (line,) = [line for line in text.splitlines() if "--server_entrypoint" in line]
        options = dict(word.lstrip("-").split("=", 1) for word in shlex.split(line) if word.startswith("--"))
        assert options["server_type"] == "vllm"
        command = f"{sys.executable} {options['server_entrypoint']} --model tiny --num_gpus 0 --num_nodes 0"
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert "--num_nodes is 0; a server lives on one node" in done.stderr


def test_its_words_compose_into_a_server(tmp_path):
    cfg = composed(*words(["--model", "org/name", "--num_gpus", "8", "--num_nodes", "1", "--port", "5000"]))
    assert (cfg.model.source, cfg.model.path, cfg.model.name) == ("hf", "org/name", "org/name")
    assert (cfg.devices, cfg.device, cfg.port, cfg.host) == (8, "cuda", 5000, "127.0.0.1")
    rest = ["--batch_size", "2", "--decoding.cache=dual", "--device", "cpu", "--devices", "auto"]
    cfg = composed(*words(["--model", "tiny", "--port=1", "mode=streaming", *rest]))
    assert (cfg.model.source, cfg.mode, cfg.batch_size, cfg.decoding.cache) == (
        "tiny",
        "streaming",
        2,
        "dual",
    )
    assert (cfg.device, cfg.devices) == ("cpu", "auto"), "what the user says holds"


def test_a_folder_is_served_as_what_it_is(tmp_path):
    """A name with characters of Hydra's grammar stays whole: it is what clients ask for."""
    hf = tmp_path / "a=b, c"
    shutil.copytree(tiny_folder(), hf)
    cfg = composed(*words(["--model", str(hf)]))
    assert (cfg.model.source, cfg.model.path, cfg.model.name) == ("hf", str(hf), str(hf))
    dcp = tmp_path / "step_10" / "policy" / "weights"
    dcp.mkdir(parents=True)
    (dcp / ".metadata").touch()
    cfg = composed(*words(["--model", str(tmp_path / "step_10"), "--base", str(hf)]))
    assert (cfg.model.source, cfg.model.base) == ("dcp", str(hf))
    (dcp.parent.parent / "config.json").write_text(json.dumps({}))
    assert "model=dcp" in words(["--model", str(tmp_path / "step_10")]), (
        "a config.json alone is no checkpoint"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "--model"),
        ("--model tiny --num_nodes 2", "--num_nodes is 2; a server lives on one node"),
        ("--model tiny --num_gpus -1", "--num_gpus is -1; expected 0"),
        ("--model tiny --num_gpus two", "num_gpus"),
        ("--model /no/such/folder", "--model is '/no/such/folder'; expected tiny, a hub id"),
        ("--model nonsense", "--model is 'nonsense'; expected tiny, a hub id"),
        ("--model tiny --base x", "--base is 'x'; 'tiny' is no torch.distributed.checkpoint"),
        ("--model tests", "no weights there"),
        ("--model tiny --batch_size", "--batch_size has no value"),
        ("--model tiny nonsense", "cannot read 'nonsense'; write key=value"),
        ("--model tiny --num_gpus 0 --batchsize 3", "batch_size"),
    ],
)
def test_bad_words_are_one_clear_line(arguments, message):
    done = programs.run("llada_exp.self_host", *arguments.split())
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
