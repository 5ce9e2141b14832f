"""The inner names of LitServe 0.2.19 that `litserve_internals` uses. A new release must be looked at."""

import ast
import inspect
from importlib.metadata import version
from pathlib import Path

import litserve
import pytest
from litserve import LitAPI, LitServer
from litserve.loops import LitLoop, inference_worker
from litserve.transport.base import MessageTransport
from litserve.transport.factory import TransportConfig, create_transport_from_config
from litserve.transport.process_transport import MPQueueTransport

from llada_exp.server.litserve_internals import EngineLoop

PACKAGE = Path(__file__).parents[2] / "llada_exp"


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_version_is_the_pinned_one():
    assert version("litserve") == "0.2.19"


def test_one_file_alone_knows_litserve():
    """Prevents a second place to look at when a new release comes."""
    knowing = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            if any((name or "").split(".")[0] == "litserve" for name in names):
                knowing.append(path.name)
    assert set(knowing) == {"litserve_internals.py"}


@pytest.mark.parametrize(
    "name", ["register_endpoints", "_inference_workers_config_for_api", "_get_request_queue",
             "launch_inference_worker", "launch_single_inference_worker", "lifespan"],
)  # fmt: skip
def test_the_server_still_has(name):
    assert callable(getattr(LitServer, name))


def test_what_is_overridden_is_called_the_same_way():
    assert parameters(LitServer.register_endpoints) == []
    assert parameters(LitServer.lifespan) == ["app"]
    assert parameters(LitAPI.setup) == ["device"]
    assert parameters(LitLoop.__call__) == parameters(EngineLoop.__call__)


def test_what_is_called_takes_the_same():
    assert parameters(LitServer.launch_inference_worker) == ["lit_api"]
    assert parameters(LitServer.launch_single_inference_worker) == ["lit_api", "worker_id"]
    assert parameters(create_transport_from_config) == ["config"]
    assert {"manager", "num_consumers"} <= set(inspect.signature(TransportConfig).parameters)
    assert parameters(MessageTransport.send) == parameters(MPQueueTransport.send) == ["item", "consumer_id"]
    assert parameters(MPQueueTransport.areceive)[0] == "consumer_id"
    assert parameters(MPQueueTransport.close) == ["send_sentinel"]


@pytest.mark.parametrize("line", [
    "self.transport_config.manager = manager",
    "self.transport_config.num_consumers = num_api_servers",
    "self.workers_setup_status = manager.dict()",
    "self.litapi_request_queues[lit_api.api_path] = manager.Queue()",
    "self._transport = create_transport_from_config(self.transport_config)",
])  # fmt: skip
def test_connect_stands_for(line):
    assert line in inspect.getsource(LitServer._init_manager)


def test_a_worker_process_is_called_as_the_loop_expects():
    assert parameters(inference_worker)[:7] == [
        "lit_api", "device", "worker_id", "request_queue", "transport", "workers_setup_status",
        "callback_runner",
    ]  # fmt: skip
    source = inspect.getsource(inference_worker)
    assert 'os.environ["LITSERVE_WORKER_ID"] = str(worker_id)' in source
    assert "except Exception" in source, "SystemExit must pass"


def test_gpus_are_counted_without_torch():
    assert isinstance(litserve.connector.check_cuda_with_nvidia_smi(), int)
