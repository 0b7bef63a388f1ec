"""Run a function on several gloo processes of this machine; for tests of rank invariance."""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_ranks(function: Callable[[int], Any], num_ranks: int) -> list[Any]:
    """Give `function(rank)` of each rank; a module's function, its results plain or tensors.

    An exception in one rank is raised here, with its traceback.
    """
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, args=(num_ranks, Path(folder), function), nprocs=num_ranks)
        return [torch.load(_result(folder, rank)) for rank in range(num_ranks)]


def _rank(rank: int, num_ranks: int, folder: Path, function: Callable[[int], Any]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(folder / "store"), num_ranks),
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(seconds=60),
    )
    try:
        torch.save(function(rank), _result(folder, rank))
        dist.barrier()  # no rank may leave while another still talks to it
    finally:
        dist.destroy_process_group()


def _result(folder: str | Path, rank: int) -> Path:
    return Path(folder) / f"result-{rank}.pt"
