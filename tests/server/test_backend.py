"""What a worker loads, and what it says of that."""

from unittest import mock

import pytest

from llada_exp.engine.forward import Forward
from llada_exp.server.processes.backend import load_backend
from tests.server.conftest import composed

FAILS = mock.patch.object(Forward, "_compiled", side_effect=RuntimeError("no compiler"))


@pytest.mark.parametrize(("capture", "named"), [("trace", "trace"), ("inductor", "none"), ("none", "none")])
def test_info_names_the_capture_that_is_in_effect_when_the_first_request_comes(capture, named):
    """Prevents an /info that names graphs which could not be captured, and a first request that waits."""
    settings = composed("engine.exact=false", f"engine.capture={capture}", "batch_size=2")
    with mock.patch.object(Forward, "_compiled") if capture == "trace" else FAILS:
        backend = load_backend(settings, "cpu")
    assert (backend.about["capture"], backend.about["attention"]) == (named, "sdpa")
    assert bool(backend.engine.decoder.forward.num_captured) == (named != "none")
