"""What a server in a job publishes, and what its readers make of it. No SLURM: an environment will do."""

import json
import os
import stat

import pytest

from llada_exp.jobs.endpoint import (
    DEFAULT_FOLDER,
    PublishedEndpoint,
    find,
    folder,
    load_all,
    published,
    write_key,
)
from llada_exp.server.announcement import job_facts
from llada_exp.settings import validate
from tests.test_conf import composed

JOB = {
    "SLURM_JOB_ID": "12",
    "SLURMD_NODENAME": "no.such.node.invalid",
    "SLURM_SUBMIT_HOST": "login1",
    "USER": "ada",
}
ELEMENT = JOB | {"SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3", "SLURM_STEP_ID": "0"}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("LLADA_ENDPOINTS", str(tmp_path / "endpoints"))
    return validate(composed("place=job"))


def test_a_server_in_no_job_is_not_published(tmp_path):
    settings = validate(composed())
    assert published(settings, JOB) == settings, "a benchmark's own server runs inside a job, too"
    assert not list(tmp_path.iterdir())


def test_a_job_publishes_under_its_id_with_a_key_of_its_own(settings, tmp_path):
    there = published(settings, ELEMENT)
    assert there.server_info == str(tmp_path / "endpoints" / "11_3.json"), "as squeue spells it"
    assert there.api_key_file == str(tmp_path / "endpoints" / "11_3.key")
    assert (there.port, there.host != "node") == (0, True)
    key = (tmp_path / "endpoints" / "11_3.key").read_text()
    published(settings, ELEMENT)
    assert (tmp_path / "endpoints" / "11_3.key").read_text() != key, "a requeued job's old key is void"


def test_replicas_have_the_key_of_their_array(settings, tmp_path):
    """A client of several servers has one key; a replica that is requeued leaves it to the others."""
    first = published(settings, ELEMENT, replicas=2)
    key = (tmp_path / "endpoints" / "11.key").read_text()
    second = published(settings, ELEMENT | {"SLURM_ARRAY_TASK_ID": "4"}, replicas=2)
    published(settings, ELEMENT, replicas=2)
    assert first.api_key_file == second.api_key_file == str(tmp_path / "endpoints" / "11.key")
    assert (tmp_path / "endpoints" / "11.key").read_text() == key
    assert stat.S_IMODE((tmp_path / "endpoints" / "11.key").stat().st_mode) == 0o600
    assert first.server_info != second.server_info
    assert [path.name for path in (tmp_path / "endpoints").iterdir()] == ["11.key"]


def test_replicas_without_an_array_are_refused(settings):
    with pytest.raises(ValueError, match=r"replicas is 2; .* \(-m hydra/launcher=slurm replicas=2"):
        published(settings, JOB, replicas=2)
    with pytest.raises(ValueError, match="replicas is 2"):
        published(validate(composed()), {}, replicas=2)


def test_outside_of_a_job_it_says_what_is_missing(settings):
    with pytest.raises(ValueError, match=r"endpoint is .* needs a SLURM job"):
        published(settings, {})


def test_a_folder_that_cannot_be_made_names_the_setting(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLADA_ENDPOINTS", str(tmp_path / "file" / "endpoints"))
    with pytest.raises(ValueError, match=r"endpoint is .*; Not a directory"):
        published(validate(composed("place=job")), JOB)


def test_a_key_file_is_never_readable_by_others_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_key(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert len((tmp_path / "key").read_text().strip()) >= 40
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_the_command_and_the_server_look_in_the_same_folder(monkeypatch):
    monkeypatch.delenv("LLADA_ENDPOINTS", raising=False)
    assert composed("place=job").endpoint == DEFAULT_FOLDER
    assert str(folder({"LLADA_ENDPOINTS": "/shared/e"})) == "/shared/e"


def test_the_tunnel_goes_through_the_host_that_submitted():
    assert job_facts(8123, {}) == {}
    facts = job_facts(8123, ELEMENT)
    assert facts["ssh"] == "ssh -N -L 8123:no.such.node.invalid:8123 ada@login1"
    assert (facts["job_id"], facts["step"]) == ("11_3", "0")
    assert job_facts(8123, JOB)["step"] is None, "the server is the batch process itself"


def test_half_a_file_and_other_files_are_no_endpoints(tmp_path):
    whole = {"job_id": "12", "instance_id": "x", "status": "stopped", "url": "http://h:1"}
    (tmp_path / "12.json").write_text(json.dumps(whole))
    (tmp_path / "13.json").write_text('{"job_id": ')
    (tmp_path / "14.json").write_text("[]")
    (tmp_path / "15.json").write_text('{"url": "http://h:1"}')
    assert [endpoint.job_id for endpoint in load_all(tmp_path)] == ["12"]
    assert find("12", tmp_path) == find(str(tmp_path / "12.json"))
    with pytest.raises(ValueError, match=r"no endpoint '13' in .*; there are: 12"):
        find("13", tmp_path)


def test_the_line_to_paste_has_the_key(tmp_path):
    info = {"url": "http://h:1", "api_key_file": str(tmp_path / "my key")}
    line = PublishedEndpoint(tmp_path, info).sample()
    assert line.startswith("curl -s http://h:1/v1/chat/completions ")
    assert f"Bearer $(cat '{tmp_path}/my key')" in line
    assert "Authorization" not in PublishedEndpoint(tmp_path, info | {"api_key_file": None}).sample()
