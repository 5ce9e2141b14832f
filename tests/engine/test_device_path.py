"""The device path without a device: what runs before a step's one transfer to the host never waits for it."""

from unittest import mock

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

from llada_exp.engine import EngineCore, decoder
from llada_exp.models import linear
from llada_exp.types import RULES, DecodingParams
from tests.toys import BOS, toy_model


class ReachedTransfer(Exception):
    pass


@pytest.fixture(scope="module")
def model():
    with mock.patch.object(linear, "_onednn_knows", return_value=False):  # its layouts are the CPU's own
        return toy_model()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cache", ["none", "dual"])
def test_a_step_reaches_its_transfer_without_another(model, rule, cache):
    """Prevents a step that waits for the device (item, nonzero, tolist, a boolean mask) in its middle."""
    own = DecodingParams(max_tokens=16, block_length=8, rule=rule, cache=cache)

    def started():
        engine = EngineCore(model, batch_size=4, exact=False)
        for length in (3, 3, 9):
            engine.add_request([BOS] * length, own)
        return engine

    started().step()  # as in a server, schedules are known before
    for num_before in (0, 1):  # whole rows; blocks, where something is kept
        engine = started()
        for _ in range(num_before):
            engine.step()
        with (
            FakeTensorMode(allow_non_fake_inputs=True),
            mock.patch.object(decoder, "to_host", side_effect=ReachedTransfer),
            pytest.raises(ReachedTransfer),
        ):
            engine.step()
