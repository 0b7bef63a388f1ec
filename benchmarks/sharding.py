"""What a train worker holds of a large model: all of it (ddp), or its share of it (fsdp).

    python benchmarks/sharding.py [--backbone resnet152] [--workers 2]

In: a backbone's name. Out: a line for each way, of the first worker after two steps of AdamW: its
share of the weights; bytes of weights, gradients and optimiser state; and what its process holds
more than before the model. Processes talk by gloo, on this machine's cores, and images are small.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from ray_st.models import ModelConfig, build
from ray_st.training.schedule import TrainConfig
from ray_st.training.sharding import blocks_of, shard
from ray_st.training.trainable import make_optimizer

SIDE_PX, CLASSES = 64, 1000


def held_bytes() -> int:
    """Resident memory of this process, without what was freed."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def own(tensors: list[torch.Tensor]) -> int:
    """Elements of tensors that stand in this process."""
    return sum(getattr(each, "to_local", lambda each=each: each)().numel() for each in tensors)


def learn(rank: int, workers: int, store: str, backbone: str, parallel: str) -> None:
    """Two steps; the first worker prints what it holds between them."""
    torch.set_num_threads(1)
    file = dist.FileStore(store, workers)
    dist.init_process_group("gloo", store=file, rank=rank, world_size=workers)
    config = ModelConfig(backbone=backbone, image_size_px=SIDE_PX, levels=(3, 5))
    pixels = torch.zeros(2, 3, SIDE_PX, SIDE_PX, dtype=torch.uint8)
    with torch.device("meta"):
        twin = build(config, "classification", CLASSES).train()
        blocks = blocks_of(twin, torch.empty_like(pixels, device="meta"))
    before = held_bytes()
    model = wrapped = build(config, "classification", CLASSES).train()
    total = sum(each.numel() for each in model.parameters())
    if parallel == "fsdp":
        shard(model, blocks, torch.device("cpu"))
    else:
        wrapped = DistributedDataParallel(model)
    optimizer = make_optimizer(model, TrainConfig(optimizer="adamw"))
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        wrapped(pixels).sum().backward()
        optimizer.step()
    parameters = list(model.parameters())
    gradients = [each.grad for each in parameters if each.grad is not None]
    moments = [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]
    tensors = own(parameters + gradients + moments) * 4
    if rank == 0:
        print(
            f"{parallel}  {own(parameters) / 1e6:.1f} of {total / 1e6:.1f} M weights, "
            f"{tensors / 2**20:.0f} MiB of state, process {(held_bytes() - before) / 2**20:.0f} MiB"
        )
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Print both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet152")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    for parallel in ("ddp", "fsdp"):
        with tempfile.TemporaryDirectory() as folder:
            given = (chosen.workers, f"{folder}/store", chosen.backbone, parallel)
            mp.spawn(learn, args=given, nprocs=chosen.workers)


if __name__ == "__main__":
    main()
