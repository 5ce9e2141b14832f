"""harness=nemo_skills from the command line, with an `ns` that asks as the real one does."""

import json

import pyarrow.parquet as pq
import pytest

from llada_exp.checkpoints.tiny import tiny_folder
from llada_exp.evals import answers
from tests.evals.nemo.fakes import PROBLEMS, fake_venv
from tests.evals.test_evaluate import evals


@pytest.fixture
def ns(tmp_path):
    return fake_venv(tmp_path / "venv")


def test_parameters_arrive_and_what_the_server_used_is_in_every_answer(tiny_server, ns, tmp_path):
    """Prevents the predecessor's evaluations, whose decoding parameters never left the client."""
    done = evals("benchmark=gsm8k:2", f"url={tiny_server.url}", f"nemo_skills.command={ns}",
                 "decoding.steps=32", "decoding.block_length=16", "decoding.max_tokens=32", "expname=n",
                 "tracking=disabled", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "evals" / "n"
    (row,) = pq.read_table(folder / "row.parquet").to_pylist()
    assert (row["harness"], row["harness_version"], row["num_problems"], row["num_samples"]) == (
        "nemo_skills", "0.7.0", len(PROBLEMS), 2,
    )  # fmt: skip
    assert (row["rule"], row["steps"], row["block_length"], row["max_tokens"]) == ("fixed", 32, 16, 32)
    assert (row["temperature"], row["top_p"]) == (0.7, 0.95)
    found = answers.read(folder / answers.FILE)
    assert len(found) == 2 * len(PROBLEMS)
    assert all(a.nfe and a.decoding["steps"] == 32 and a.url == tiny_server.url for a in found)
    assert "gsm8k" in json.loads((folder / "scores.json").read_text())["metrics"]


def test_a_field_that_the_server_did_not_use_fails_the_run(tiny_server, ns, tmp_path):
    done = evals("benchmark=gsm8k", f"url={tiny_server.url}", f"nemo_skills.command={ns}",
                 "decoding.rule=threshold", "extra_body={steps: 32}", "expname=n", "tracking=disabled",
                 cwd=tmp_path)  # fmt: skip
    assert done.returncode == 1
    assert "steps was asked as 32, but the server used" in done.stderr


def test_the_dry_run_prints_the_command(ns, tmp_path):
    done = evals("benchmark=gsm8k:4", "url=http://127.0.0.1:9", f"nemo_skills.command={ns}", "dry_run=true",
                 "decoding.threshold=0.9", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    for word in ("--benchmarks=gsm8k:4", "--server_type=vllm", "--server_address=http://127.0.0.1:9/v1",
                 "++inference.extra_body.threshold=0.9", "++inference.temperature=0.7"):  # fmt: skip
        assert word in done.stdout
    assert "enable_soft_fail" not in done.stdout, "whose tokenizer is not known"
    done = evals("benchmark=gsm8k", f"nemo_skills.command={ns}", "dry_run=true", cwd=tmp_path)
    assert f"++server.enable_soft_fail=True ++tokenizer={tiny_folder()}" in done.stdout


def test_its_absence_says_what_to_do(tmp_path):
    done = evals("benchmark=gsm8k", "nemo_skills.command=/none/ns", cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install git+https://github.com/NVIDIA/NeMo-Skills.git" in done.stderr
    assert len(done.stderr.splitlines()) == 1
