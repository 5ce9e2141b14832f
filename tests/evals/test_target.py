"""Whom an evaluation asks, and that answers of two models never come into one folder."""

from pathlib import Path

import pytest

from llada_exp.evals.target import target
from llada_exp.jobs import operate, slurm
from llada_exp.jobs.endpoint import PublishedEndpoint
from tests.evals.endpoint import completion, endpoint
from tests.evals.samples import settings


def right(body):
    return completion("\\boxed{1}")


def test_endpoints_must_serve_the_same_model(tmp_path, capfd):
    with (
        endpoint(right) as a,
        endpoint(right, model="other") as b,
        pytest.raises(ValueError, match="url names endpoints of different models"),
        target(settings(f"url=[{a.url},{b.url}]"), tmp_path),
    ):
        pass
    with endpoint(right) as a, target(settings(f"url=[{a.url},http://127.0.0.1:9]"), tmp_path) as own:
        assert (own.model, own.urls) == ("toy", (a.url, "http://127.0.0.1:9"))
    assert "warning: url is http://127.0.0.1:9; no list of models came from there" in capfd.readouterr().err
    with (
        pytest.raises(RuntimeError, match=r"none of http://127\.0\.0\.1:9, http://127\.0\.0\.1:7 answers"),
        target(settings("url=[http://127.0.0.1:9,http://127.0.0.1:7]"), tmp_path),
    ):
        pass


def test_a_folder_is_not_gone_on_with_by_another_model(tmp_path):
    """Prevents one score of two checkpoints, where the endpoint was restarted with the next one."""
    with endpoint(right) as a, target(settings(f"url={a.url}"), tmp_path):
        pass
    with (
        endpoint(right, model="other") as b,
        pytest.raises(ValueError, match=r"url serves 'other'; .* was begun with 'toy'"),
        target(settings(f"url={b.url}"), tmp_path),
    ):
        pass


def test_every_endpoint_has_the_key_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LLADA_API_KEY", "secret")
    with endpoint(right) as a, target(settings(f"url={a.url}"), tmp_path) as own:
        assert own.keys == {a.url: "secret"}
    assert "secret" not in (tmp_path / "model.json").read_text()


def test_an_array_of_serving_jobs_is_all_of_them(tmp_path, monkeypatch):
    """It was "no job 12: it is neither in SLURM's queue", of the id that sbatch printed."""
    queue = {i: slurm.Job(i, "RUNNING", "n1", "llada-serve") for i in ("12_0", "12_1")}
    monkeypatch.setattr(slurm, "my_jobs", lambda: queue)
    monkeypatch.setenv("LLADA_ENDPOINTS", str(tmp_path))
    with endpoint(right) as a, endpoint(right) as b:
        urls = {"12_0": a.url, "12_1": b.url}

        def wait_ready(job_id, place, timeout_s):
            return PublishedEndpoint(Path(f"{job_id}.json"), {"job_id": job_id, "url": urls[job_id]})

        monkeypatch.setattr(operate, "wait_ready", wait_ready)
        with target(settings("url=job:12"), tmp_path) as own:
            assert own.urls == (a.url, b.url)
