"""What of ours goes with Ray's tasks, and what of Ray's is kept from the console."""

import logging
import subprocess
import sys

import pytest
import ray.data
import torch
from pyarrow import fs
from ray import cloudpickle

from ray_st import ray_checkpoints, ray_compat
from ray_st.config import UserError

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


@pytest.mark.parametrize(
    ("error", "said_by_ray", "expected"),
    [
        (ValueError("x"), False, False),
        (ValueError("x"), True, True),  # of what it was given to run, Ray itself says so
        (UserError("x"), False, True),
    ],
)
def test_only_a_refusal_is_kept_from_the_console_besides(error, said_by_ray, expected):
    ray_compat.quieten()
    added = logging.getLogger("ray.data.exceptions").filters[-1]
    record = logging.makeLogRecord({"hide": said_by_ray})
    try:
        raise error
    except (ValueError, UserError):
        assert added(record)
    assert record.hide is expected


def test_an_executor_that_ends_late_finds_nobody(tmp_path):
    calls = []
    with ray_checkpoints.checkpointed(
        "image_id",
        fs.LocalFileSystem(),
        str(tmp_path),
        lost_blocks=1,
        each_step=lambda: calls.append(1),
    ):
        (callback,) = ray.data.DataContext.get_current().custom_execution_callback_classes
        late = callback()
        late.on_execution_step(None)
    late.on_execution_step(None)
    assert calls == [1]
