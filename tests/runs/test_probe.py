"""What is read of the server's own doings, and what is null where it cannot be read."""

import os
from types import SimpleNamespace

import pynvml
import pytest

from llada_exp.runs import probe


def told(**engine):
    return {"workers": [{"pid": 1, "engine": engine}, {"pid": 2, "engine": engine}]}


def test_counters_are_differences_over_all_workers():
    before = told(num_steps=10, num_nfe=20, num_positions=100, num_logit_rows=60)
    after = told(num_steps=20, num_nfe=50, num_positions=500, num_logit_rows=160)
    measures = probe.server_measures(before, after)
    shown = {"num_steps": 20, "mean_batch_size": 3.0, "useful_position_ratio": 0.25}
    assert measures == {**shown, "workers_lost": 0}


def test_a_server_of_another_make_tells_nothing():
    assert set(probe.server_measures({}, {}).values()) == {None}
    own = probe.Probe("http://127.0.0.1:9", local=False)
    assert set(own.measures().values()) == {None}


def test_resident_memory_is_a_peak_since_the_reset():
    block = bytearray(64 * 2**20)
    before = probe.memory([os.getpid()])["peak_memory_mb"]
    del block
    probe._reset_peak(os.getpid())
    after = probe.memory([os.getpid()])
    assert after["memory_kind"] == "resident"
    assert after["peak_memory_mb"] < before - 32, "a point would show the memory of the one before it"


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs; ours is the second."""
    energy = {0: 5_000_000, 1: 1_000_000}
    processes = {0: [(99, 7)], 1: [(42, 3 * 2**30), (99, 7)]}

    def running(device):
        return [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in processes[device]]

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda i: i)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", running)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", energy.__getitem__)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda i: f"GPU {i}")
    return energy


def test_memory_energy_and_name_are_of_the_gpu_that_the_workers_use(gpus, monkeypatch):
    monkeypatch.setattr(probe, "batch_stats", lambda url: {"workers": [{"pid": 42, "engine": {}}]})
    own = probe.Probe("http://here", local=True)
    gpus[1] += 2500
    measures = own.measures()
    assert measures["energy_j"] == 2.5
    assert (measures["peak_memory_mb"], measures["memory_kind"]) == (3 * 1024, "gpu")
    assert probe.gpu_names([42]) == ["GPU 1"]


def test_a_gpu_that_tells_no_energy_is_null(gpus, monkeypatch):
    def refuse(device):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", refuse)
    assert probe.energy_mj([42]) is None
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", refuse)
    assert probe.gpu_memory([42]) is None
    assert probe.gpu_names([42]) == []
