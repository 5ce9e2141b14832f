"""Training runs for the tests beside it, made once."""

import shutil
from pathlib import Path

import pytest

from tests.evals.training_runs import learning, trained


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """step_1, step_2 and step_3 of the real trainer, beside its model/ and resume/; not to be written to."""
    return trained(tmp_path_factory.mktemp("trained") / "toy", 3)


@pytest.fixture
def own_run(trained_run, tmp_path):
    """A copy that a test may break."""
    return Path(shutil.copytree(trained_run, tmp_path / "toy"))


@pytest.fixture(scope="session")
def learning_run(tmp_path_factory):
    """step_10, step_20, step_30, each with more right answers than the one before; not to be written to."""
    return learning(tmp_path_factory.mktemp("learning") / "tiny", {10: 0.5, 20: 0.3, 30: 0.0})
