"""One real server for most tests: reference weights, so answers are real decoding of a random model."""

import sys
from pathlib import Path

import httpx
import pytest
from hydra import compose, initialize_config_dir

from llada_exp.jobs import running_server
from llada_exp.settings import conf_dir, validate

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "tests" / "reference" / "llada-random-a"
FAKE = (sys.executable, "-m", "tests.server.fake_serve")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    overrides = ["model=hf", f"model.path={REFERENCE}", "model.name=llada-8b-instruct", "batch_size=8",
                 "decoding=fast", "decoding.block_length=16"]  # fmt: skip
    with running_server(overrides, start_timeout_s=120, folder=tmp_path_factory.mktemp("server")) as handle:
        yield handle
        code = handle.process.poll()
        assert code is None, f"it ended by itself, with {code}:\n{handle.log.read_text()[-3000:]}"


@pytest.fixture(scope="session")
def fake():
    """The real server around the fake engine; tests that stop or kill theirs start their own."""
    with running_server(["batch_size=4"], command=FAKE, start_timeout_s=60) as handle:
        yield handle


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def fake_http(fake):
    with httpx.Client(base_url=fake.url, timeout=20) as client:
        yield client


def say(text, **fields):
    """The body of a chat request."""
    return {"messages": [{"role": "user", "content": text}], **fields}


def composed(*overrides):
    """The settings of `python -m llada_exp.serve OVERRIDES`."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return validate(compose("serve", overrides=list(overrides)))
