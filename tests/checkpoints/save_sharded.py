"""Save a Hugging Face folder's weights as a training run on two processes would: FSDP2 over gloo.

`python save_sharded.py HF_FOLDER OUT` writes OUT/v1 (keys under "model."), OUT/v2 (bare keys) and
OUT/safetensors (each process's shards in safetensors).
"""

import os
import socket
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.fsdp import fully_shard

from llada_exp.checkpoints.hf import load_hf
from llada_exp.models.llada import LLaDA

WORLD = 2


def save(rank: int, port: int, model: LLaDA, out: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(WORLD))
    dist.init_process_group("gloo")
    mesh = dist.init_device_mesh("cpu", (WORLD,))
    for block in model.model["transformer"]["blocks"]:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    state = model.state_dict()
    dcp.save({f"model.{key}": value for key, value in state.items()}, checkpoint_id=f"{out}/v1")
    dcp.save(dict(state), checkpoint_id=f"{out}/v2")
    writer = dcp.HuggingFaceStorageWriter(f"{out}/safetensors", save_distributed=True)
    dcp.save(dict(state), storage_writer=writer)
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free_port = probe.getsockname()[1]
    torch.set_num_threads(1)  # no thread may live when the processes fork
    source = load_hf(sys.argv[1], torch.device("cpu"), torch.float32).network
    mp.start_processes(save, (free_port, source, sys.argv[2]), nprocs=WORLD, start_method="fork")
