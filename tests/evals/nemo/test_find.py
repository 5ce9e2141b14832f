"""The user's NeMo-Skills: found, and known for what it is, before anything is asked."""

import os
import sys

import pytest

from llada_exp.evals.nemo.command import find
from tests.evals.nemo.fakes import fake_venv, script, without_ns


def test_an_install_is_found_with_its_version_where_the_user_says(tmp_path):
    ns = fake_venv(tmp_path / "venv", "0.7.1")
    found = find(str(ns))
    assert found.command == (str(ns),)
    assert found.version == "0.7.1"
    assert found.package == tmp_path / "venv" / "lib" / "nemo_skills"


def test_an_install_is_found_on_the_path_and_beside_this_python(tmp_path, monkeypatch):
    ns = fake_venv(tmp_path / "venv")
    monkeypatch.setenv("PATH", f"{ns.parent}:{os.environ['PATH']}")
    assert find().command == (str(ns),)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(ns.parent / "python"))
    assert find().command == (str(ns),)


def test_a_link_to_the_program_is_the_program(tmp_path):
    """As pipx and people's ~/bin have it: the Python is not beside the link."""
    ns = fake_venv(tmp_path / "venv")
    (tmp_path / "ns").symlink_to(ns)
    assert find(str(tmp_path / "ns")).version == "0.7.0"


def test_absence_is_one_line_that_says_what_to_do(monkeypatch):
    without_ns(monkeypatch)
    with pytest.raises(ValueError, match="no ns on PATH") as caught:
        find()
    line = str(caught.value)
    assert "\n" not in line
    for word in (
        "git+https://github.com/NVIDIA/NeMo-Skills.git 'typer<0.20' 'mcp<2'",
        "nemo_skills.command=",
        "harness=builtin",
    ):
        assert word in line
    with pytest.raises(ValueError, match=r"nemo_skills.command is '/no/such/ns'; there is no such program"):
        find("/no/such/ns")


def test_another_program_of_that_name_is_not_taken_for_it(tmp_path):
    """`ns` is a network simulator too."""
    script(tmp_path / "ns", "#!/bin/sh\nexit 0\n")
    with pytest.raises(ValueError, match="is not NeMo-Skills"):
        find(str(tmp_path / "ns"))


def test_an_install_that_would_not_understand_us_is_named_with_what_helps(tmp_path, monkeypatch):
    """Of newer versions of typer, whose options have dashes; or where it does not start at all."""
    for kind, words in (("dashes", "shows --output-dir"), ("broken", "ends with: ImportError: no mcp")):
        ns = fake_venv(tmp_path / kind)
        if kind == "broken":
            script(ns, f"#!{ns.parent / 'python'}\nraise ImportError('no mcp')\n")
        monkeypatch.setenv("FAKE_NS", kind)
        with pytest.raises(ValueError, match=rf"{words}.*pip install 'typer<0.20' 'mcp<2'"):
            find(str(ns))


def test_a_machine_without_curl_is_refused_before_a_wait_without_end(tmp_path, monkeypatch):
    ns = fake_venv(tmp_path / "venv")
    (ns.parent / "curl").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="install curl"):
        find(str(ns))
