"""The inner names of LitServe 0.2.19 that the server is built on. A new release must be looked at."""

import inspect
from importlib.metadata import version

import pytest
from litserve import LitServer
from litserve.loops import LitLoop, inference_worker
from litserve.loops.base import _SENTINEL_VALUE
from litserve.server import response_queue_to_buffer
from litserve.specs.base import LitSpec
from litserve.transport.factory import create_transport_from_config
from litserve.utils import LitAPIStatus, LoopResponseType, ResponseBufferItem

from llada_exp.server.processes.engine_turns import STOP, EngineLoop


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_version_is_the_pinned_one():
    assert version("litserve") == "0.2.19"


@pytest.mark.parametrize(
    "name",
    ["_init_manager", "_register_internal_endpoints", "_inference_workers_config_for_api",
     "_get_request_queue", "launch_inference_worker", "launch_single_inference_worker", "lifespan"],
)  # fmt: skip
def test_the_server_still_has(name):
    assert callable(getattr(LitServer, name))


def test_what_is_overridden_is_called_the_same_way():
    assert parameters(LitServer._init_manager) == ["num_api_servers"]
    assert parameters(LitServer.launch_single_inference_worker) == ["lit_api", "worker_id"]
    assert parameters(LitServer.lifespan) == ["app"]
    assert parameters(LitLoop.__call__) == parameters(EngineLoop.__call__)
    assert parameters(response_queue_to_buffer)[:3] == ["transport", "response_buffer", "consumer_id"]
    assert parameters(create_transport_from_config) == ["config"]
    assert parameters(LitSpec.setup) == ["server"]


def test_a_worker_process_is_called_as_the_loop_expects():
    assert parameters(inference_worker)[:7] == [
        "lit_api", "device", "worker_id", "request_queue", "transport", "workers_setup_status",
        "callback_runner",
    ]  # fmt: skip
    assert "LITSERVE_WORKER_ID" in inspect.getsource(inference_worker)
    assert "except Exception" in inspect.getsource(inference_worker), "SystemExit must pass"


def test_messages_have_the_same_form():
    assert STOP == _SENTINEL_VALUE
    assert parameters(LitLoop.put_response) == [
        "transport", "response_queue_id", "uid", "response_data", "status", "response_type",
    ]  # fmt: skip
    assert LitAPIStatus.OK == "OK"
    assert LoopResponseType.STREAMING.value == "STREAMING"
    assert {"event", "response_queue"} <= set(ResponseBufferItem.__dataclass_fields__)
