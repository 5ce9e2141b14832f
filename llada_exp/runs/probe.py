"""What the server did during a load: its own counters, its workers' memory, the GPUs' energy.

Reads /batch/stats before and after, /proc for workers on this host, and NVML where there is a GPU.
Every figure is None where it cannot be had, as for a server of another make.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pynvml

from llada_exp.clients.http import RequestFailed, environment_key, get_json

MIB = 2**20
STATS_S = 10.0


class Probe:
    """Around one load: make it before, ask `measures` after.

    local: the server runs on this host, so that its processes and GPUs can be looked at.
    """

    def __init__(self, url: str, local: bool) -> None:
        self.url = url
        self.local = local
        self.before = batch_stats(url)
        self.pids = [worker["pid"] for worker in self.before.get("workers", ())] if local else []
        for pid in self.pids:
            _reset_peak(pid)
        self.energy_before = energy_mj(self.pids)

    def measures(self) -> dict[str, Any]:
        after = batch_stats(self.url)
        energy = energy_mj(self.pids)
        joules = None
        if energy is not None and self.energy_before is not None:
            joules = (energy - self.energy_before) / 1000
        return {**server_measures(self.before, after), **memory(self.pids), "energy_j": joules}


def batch_stats(url: str) -> dict[str, Any]:
    """{} where there is no such route."""
    try:
        tree = get_json(f"{url}/batch/stats", key=environment_key(), timeout_s=STATS_S)
    except RequestFailed:
        return {}
    return tree if isinstance(tree, dict) else {}


def server_measures(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Differences of the workers' counters over the load. Of a worker that was started anew meanwhile they
    begin at 0 again: then no sum is known."""
    pids, now = ({w["pid"] for w in stats.get("workers", ())} for stats in (before, after))
    lost = len(pids - now) if now else None

    def grown(name: str) -> int | None:
        sums = [
            sum(w["engine"].get(name, 0) for w in stats.get("workers", ()) if w.get("engine"))
            for stats in (before, after)
        ]
        return sums[1] - sums[0] if lost == 0 else None

    steps, passes, positions, masked = map(grown, ("num_steps", "num_nfe", "num_positions", "num_logit_rows"))
    return {
        "workers_lost": lost,
        "num_steps": steps,
        "mean_batch_size": passes / steps if steps and passes is not None else None,
        "useful_position_ratio": masked / positions if positions and masked is not None else None,
    }


def memory(pids: Sequence[int]) -> dict[str, Any]:
    """Of the workers together. GPU: what NVML says they hold now (the allocator keeps its peak); else
    the peak of their resident memory since the last reset."""
    on_gpu = gpu_memory(pids)
    if on_gpu is not None:
        return {"peak_memory_mb": on_gpu / MIB, "memory_kind": "gpu"}
    peaks = [peak for pid in pids if (peak := _status(pid).get("VmHWM")) is not None]
    if not peaks or len(peaks) < len(pids):
        return {"peak_memory_mb": None, "memory_kind": None}
    return {"peak_memory_mb": sum(peaks) / 1024, "memory_kind": "resident"}


def gpu_memory(pids: Sequence[int]) -> int | None:
    """Bytes that these processes hold on all GPUs; None without a GPU or where NVML will not tell."""
    held = [memory for processes in _used(pids).values() for memory in processes]
    return sum(held) if held and None not in held else None


def energy_mj(pids: Sequence[int]) -> int | None:
    """Millijoules that the GPUs which these processes use have drawn since their driver was loaded:
    the whole device's, whoever else is on it."""
    try:
        drawn = [pynvml.nvmlDeviceGetTotalEnergyConsumption(_device(i)) for i in _used(pids)]
    except pynvml.NVMLError:
        return None
    return sum(drawn) if drawn else None


def gpu_names(pids: Sequence[int]) -> list[str]:
    """Of the GPUs that these processes use."""
    return [str(pynvml.nvmlDeviceGetName(_device(i))) for i in _used(pids)]


def _used(pids: Sequence[int]) -> dict[int, list[int]]:
    """Bytes that each of these processes holds, by the number of the GPU; {} where NVML is not there."""
    used: dict[int, list[int]] = {}
    try:
        pynvml.nvmlInit()
        for number in range(pynvml.nvmlDeviceGetCount()):
            running = pynvml.nvmlDeviceGetComputeRunningProcesses(_device(number))
            if memories := [process.usedGpuMemory for process in running if process.pid in pids]:
                used[number] = memories
    except pynvml.NVMLError:
        return {}
    return used


def _device(number: int) -> Any:
    return pynvml.nvmlDeviceGetHandleByIndex(number)


def _reset_peak(pid: int) -> None:
    """From now on VmHWM counts anew; points share a server. Where that is not to be had (not Linux,
    another user's process), the peak is since the server's start."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int) -> dict[str, int]:
    """The kB figures of /proc/PID/status."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) for name, value in pairs}
