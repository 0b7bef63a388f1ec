"""What a run would have around it: the cluster, or this machine as a Ray on it would be told of.

In: `--address`. Out: `Room`. A cluster is asked and left again. Next: `sweep.py`.
"""

from __future__ import annotations

import os

import torch

from ray_st.cluster.session import connected, in_job, local_cpus, node_memory_bytes, resources
from ray_st.selftraining.checkup.fit import Room
from ray_st.selftraining.checkup.memory import machine_bytes


def room_at(address: str | None) -> Room:
    """What there is at an address as `connected` takes it. Raises `UserError` as that does."""
    if address in (None, "local") and not in_job():
        return _here()
    with connected(address):
        found = resources()
        return Room(cpus=found["cpus"], gpus=found["gpus"], memory_bytes=tuple(node_memory_bytes()))


def _here() -> Room:
    gpus = range(torch.cuda.device_count())
    return Room(
        cpus=local_cpus(),
        gpus=len(gpus),
        cores=os.cpu_count(),
        memory_bytes=(machine_bytes(),),
        gpu_memory_bytes=tuple(torch.cuda.get_device_properties(i).total_memory for i in gpus),
        name="this machine",
    )
