"""What is sent along with Ray's tasks."""

import subprocess
import sys

import pytest
import ray.data
import torch
from pyarrow import fs
from ray import cloudpickle

from ray_st import ray_checkpoints

pytestmark = pytest.mark.pure

# Unpacks what it is given, as a worker does, and says what that brought in.
WORKER = """
import sys
from ray import cloudpickle
sent = cloudpickle.loads(sys.stdin.buffer.read())
print(sent.__name__, "torch" in sys.modules)
"""


def test_a_task_brings_no_torch_into_its_process(tmp_path):
    def step() -> None:
        torch.manual_seed(0)

    with ray_checkpoints.checkpointed(
        "image_id", fs.LocalFileSystem(), str(tmp_path), lost_blocks=1, each_step=step
    ):
        (callback,) = ray.data.DataContext.get_current().custom_execution_callback_classes
        sent = cloudpickle.dumps(callback)
    done = subprocess.run([sys.executable, "-c", WORKER], input=sent, capture_output=True)
    assert done.stdout.decode().split() == ["EachStep", "False"], done.stderr.decode()
