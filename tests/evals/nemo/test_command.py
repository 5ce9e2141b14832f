"""NeMo-Skills' command line, process and files; the program itself is tests/evals/nemo/fake_ns.py."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from llada_exp.evals.nemo import process as nemo_process
from llada_exp.evals.nemo.command import NemoPlan, command
from llada_exp.evals.nemo.process import run
from llada_exp.evals.nemo.results import (
    first_failure,
    first_look,
    read_metrics,
    read_results,
    verify_parameters,
)
from llada_exp.evals.nemo.resume import go_on
from tests.evals.nemo.fakes import PROBLEMS, endpoint

ROOT = Path(__file__).parents[3]


def plan(tmp_path, **fields):
    own = {"benchmarks": {"gsm8k": 2}, "address": "http://127.0.0.1:9", "model": "tiny",
           "output_dir": tmp_path / "out"}  # fmt: skip
    return NemoPlan(**own | fields)


# the words


def test_the_words_are_those_that_work(tmp_path, installed):
    words = command(
        installed,
        plan(
            tmp_path,
            benchmarks={"gsm8k": 4, "hendrycks_math": 1},
            address="http://host:8000",
            expname="mine",
            max_samples=10,
            temperature=0.7,
            top_p=0.95,
            tokens_to_generate=512,
            seed=3,
            concurrency=64,
            decoding={"steps": 256, "block_length": 8, "remasking": "low_confidence", "cfg_scale": 0.0},
        ),
    )
    assert words[1:] == [
        "eval",
        "--benchmarks=gsm8k:4,hendrycks_math:1",
        "--server_type=vllm",
        "--server_address=http://host:8000/v1",
        "--model=tiny",
        f"--output_dir={tmp_path / 'out'}",
        "--expname=mine",
        "--starting_seed=3",
        "++max_samples=10",
        "++max_concurrent_requests=64",
        "++inference.temperature=0.7",
        "++inference.top_p=0.95",
        "++inference.tokens_to_generate=512",
        "++inference.extra_body.steps=256",
        "++inference.extra_body.block_length=8",
        "++inference.extra_body.remasking=low_confidence",
        "++inference.extra_body.cfg_scale=0.0",
    ]


def test_what_is_not_said_is_not_sent_and_resume_skips_what_is_filled(tmp_path, installed):
    assert not [w for w in command(installed, plan(tmp_path)) if w.startswith("++")]
    soft = command(installed, plan(tmp_path, tokenizer="org/name"))
    assert soft[-2:] == ["++server.enable_soft_fail=True", "++tokenizer=org/name"]
    words = command(installed, plan(tmp_path, resume=True, address="http://h:1/v1/", extra=("++x=1",)))
    assert words[-2:] == ["++skip_filled=True", "++x=1"]
    assert "--server_address=http://h:1/v1" in words


def test_values_pass_a_shell_and_hydra_whole(tmp_path, installed):
    """NeMo-Skills joins its arguments with spaces into a shell line, and Hydra reads what is left of them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values = {"a": "it's 1, 2", "b": "x=y", "c": True, "d": ["s 1", 2], "e": "$HOME", "f": 1e-3}
    words = command(installed, plan(tmp_path, decoding=values))
    parsed = OverridesParser.create().parse_overrides(shlex.split(" ".join(words[-len(values) :])))
    assert {o.key_or_group[-1]: o.value() for o in parsed} == values


@pytest.mark.parametrize(
    ("field", "value"),
    [("output_dir", Path("/a b")), ("output_dir", Path("/a=1/b")), ("model", "a;b"), ("expname", "a,b"),
     ("benchmarks", {"a b": 1})],
)  # fmt: skip
def test_names_that_would_be_torn_apart_are_refused(tmp_path, installed, field, value):
    with pytest.raises(ValueError, match=rf"{field} is '.*'; NeMo-Skills takes"):
        command(installed, plan(tmp_path, **{field: value}))


# a run


def test_a_run_is_read_back_as_answers(tmp_path, installed, record):
    with endpoint(record) as address:
        own = plan(
            tmp_path, address=address, seed=5, temperature=0.5, tokens_to_generate=99, decoding={"steps": 64}
        )
        log = run(installed, own, tmp_path, first_look(own.sent(), record))
    assert log.read_text().startswith(f"$ {installed.command[0]} eval")
    assert verify_parameters(own.sent(), record) is None
    answers = read_results(own, record)
    assert [(a.problem, a.sample, a.seed) for a in answers[:4]] == [
        ("sum", 0, 5), ("1", 0, 5), ("2", 0, 5), ("3", 0, 5)
    ]  # fmt: skip
    assert [a.verdict for a in answers] == ["correct", "correct", "wrong", "no_answer"] * 2
    assert [a.predicted for a in answers[:4]] == ["5", "8", "10", None]
    first = answers[4]
    assert (first.benchmark, first.sample, first.seed) == ("gsm8k", 1, 6)
    assert (first.question, first.expected) == (PROBLEMS[0]["problem"], "5")
    assert (first.nfe, first.num_positions, first.e2el_ms) == (64, 4096, 12.5)
    assert (first.prompt_tokens, first.output_tokens, first.finish_reason) == (30, 7, "stop")
    assert (first.url, first.attempts) == ("http://a:1", 2)
    assert first.decoding["steps"] == 64
    assert read_metrics(own) == {"gsm8k": {"pass@1": {"num_entries": 4}}}


def test_the_names_of_an_older_version_are_read_and_max_samples_holds(
    tmp_path, installed, record, monkeypatch
):
    monkeypatch.setenv("FAKE_NS", "old")
    with endpoint(record) as address:
        own = plan(tmp_path, address=address, benchmarks={"gsm8k": 0}, max_samples=2, tokens_to_generate=9)
        run(installed, own, tmp_path)
    answers = read_results(own, record)
    assert [(a.verdict, a.seed, a.nfe) for a in answers] == [("correct", 0, 64)] * 2
    assert read_metrics(own) == {"gsm8k": {"pass@1": {"num_entries": 2}}}


def test_answers_without_a_record_have_what_nemo_skills_says(tmp_path, installed, record):
    with endpoint(record) as address:
        own = plan(tmp_path, address=address, benchmarks={"gsm8k": 1}, tokens_to_generate=9)
        run(installed, own, tmp_path)
    answers = read_results(own)
    assert [a.verdict for a in answers] == ["correct", "correct", "wrong", "no_answer"]
    assert [(a.nfe, a.url, a.output_tokens) for a in answers] == [(None, None, 7)] * 4


def test_a_second_run_into_the_same_folder_is_refused_unless_it_resumes(tmp_path, installed, record):
    """NeMo-Skills would skip what is there, whatever it was asked with, and report the old score."""
    with endpoint(record) as address:
        own = plan(tmp_path, address=address, tokens_to_generate=9)
        run(installed, own, tmp_path)
        with pytest.raises(ValueError, match=r"output_dir holds .*output-rs0\.jsonl of an earlier run"):
            run(installed, own, tmp_path)
        own.outputs()["gsm8k", 1].unlink()
        assert go_on(own, lambda line, seed: None) == len(PROBLEMS)
        run(installed, replace(own, resume=True), tmp_path)
    assert len(record.read_text().splitlines()) == 3 * len(PROBLEMS), "what was there was not asked again"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("fail", r"exit code 1 \(.*\); .*\n(.*\n)*ValueError: Data file"),
        ("quiet", r"wrote no .*rs0\.jsonl \("),
    ],
)
def test_a_failed_run_says_why(tmp_path, installed, record, kind, message, monkeypatch):
    """Its exit code is 0 also where its job failed, and its log may not hold the server's words."""
    monkeypatch.setenv("FAKE_NS", kind)
    record.write_text(json.dumps({"status": 400, "error": {"message": "steps is 0"}, "texts": []}) + "\n")
    blame = lambda: first_failure(record)  # noqa: E731
    with pytest.raises(RuntimeError, match=message) as caught:
        run(installed, plan(tmp_path), tmp_path, blame=blame)
    assert "(the server answered 400: steps is 0)" in str(caught.value)
    assert first_failure(tmp_path / "none") is None


def test_servers_that_are_gone_are_the_reason_also_where_it_noticed_first(tmp_path, installed, monkeypatch):
    monkeypatch.setattr(nemo_process, "POLL_S", 60.0)
    monkeypatch.setenv("FAKE_NS", "fail")
    told = iter([None, "no server answers any more"])
    with pytest.raises(RuntimeError, match=r"exit code 1 \(no server answers any more\)"):
        run(installed, plan(tmp_path), tmp_path, lambda: next(told))


def gone(pids, within_s=10.0):
    until = time.monotonic() + within_s
    while time.monotonic() < until and any(map(psutil.pid_exists, pids)):
        time.sleep(0.05)
    return not any(map(psutil.pid_exists, pids))


def test_when_the_servers_are_gone_every_process_of_the_run_is_ended(tmp_path, installed, monkeypatch):
    """Its jobs live in sessions of their own and may not listen to a SIGTERM."""
    monkeypatch.setattr(nemo_process, "STOP_S", 0.5)
    pids = tmp_path / "pids"
    monkeypatch.setenv("FAKE_NS", "hang")
    monkeypatch.setenv("FAKE_NS_PIDS", str(pids))
    alive = lambda: "no server answers any more" if pids.is_file() and pids.read_text() else None  # noqa: E731
    with pytest.raises(RuntimeError, match="was ended: no server answers any more"):
        run(installed, plan(tmp_path), tmp_path, alive)
    assert gone([int(pid) for pid in pids.read_text().split()])


RUN = """
import signal, sys
from pathlib import Path
from llada_exp.evals.nemo import process as nemo_process
from llada_exp.evals.nemo.command import NemoPlan, find
nemo_process.STOP_S = 0.5
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
out = Path(sys.argv[2])
nemo_process.run(find(sys.argv[1]), NemoPlan({"gsm8k": 1}, "http://127.0.0.1:9", "m", out), out)
"""


def test_a_sigterm_to_us_ends_every_process_of_the_run(tmp_path, installed):
    pids = tmp_path / "pids"
    env = {**os.environ, "FAKE_NS": "hang", "FAKE_NS_PIDS": str(pids)}
    words = [sys.executable, "-c", RUN, installed.command[0], str(tmp_path / "out")]
    with subprocess.Popen(words, env=env, cwd=ROOT) as own:
        until = time.monotonic() + 60
        while not (pids.is_file() and pids.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        own.send_signal(signal.SIGTERM)
        assert own.wait(30) == 143
    assert gone([int(pid) for pid in pids.read_text().split()])


def test_it_runs_with_its_own_python_and_no_containers(tmp_path, installed, monkeypatch):
    """Its jobs call `python` and look for their data from where they run; a cluster's configuration in the
    environment would start containers that see none of our folders."""
    monkeypatch.setenv("NEMO_SKILLS_CONFIG", "/some/cluster.yaml")
    env = nemo_process._environment(installed, tmp_path)
    assert env["PATH"].split(":")[0] == str(installed.python.parent)
    assert "NEMO_SKILLS_CONFIG" not in env
    assert env["NEMORUN_HOME"].startswith(str(tmp_path))


# did the server do what was asked?
