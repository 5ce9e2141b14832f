"""A fake install of NeMo-Skills, and a relay's record."""

import pytest

from llada_exp.evals.nemo.command import find
from tests.evals.nemo.fakes import fake_venv


@pytest.fixture
def installed(tmp_path):
    return find(str(fake_venv(tmp_path / "venv")))


@pytest.fixture
def record(tmp_path):
    return tmp_path / "record.jsonl"
