"""What holds for every task, whichever it is."""

import inspect
import math

import pytest

from ray_st.config import UserError
from ray_st.data.labels import KINDS
from ray_st.data.rows import label_row
from ray_st.models import ModelConfig
from ray_st.tasks import TaskName, make_task
from ray_st.tasks.task import Objective, Task

pytestmark = pytest.mark.pure

NAMES = TaskName.__args__


@pytest.fixture(params=NAMES)
def task(request):
    return make_task(request.param, ModelConfig(), 2)


def test_a_task_is_one(task, request):
    assert isinstance(task, Task)
    assert isinstance(task, Objective)
    assert task.name in NAMES
    for name in (
        *("targets", "loss_sums", "counts"),
        *("predictions", "merged", "metrics", "agreement"),
    ):
        given, promised = (
            [*inspect.signature(getattr(each, name)).parameters] for each in (type(task), Task)
        )
        assert given == promised


def test_each_task_has_a_kind_of_labels_of_its_own():
    kinds = [make_task(name, ModelConfig(), 2).kind for name in NAMES]
    assert sorted(kinds, key=KINDS.index) == list(KINDS)


def test_the_figures_to_look_at_are_measured_even_of_nothing(task):
    empty = label_row(task.kind).empty_table()
    figures = task.metrics(empty, empty, ("a", "b"))
    assert set(task.figures) <= set(figures)
    assert all(math.isnan(share) for share in task.agreement(empty, empty))


def test_a_task_that_there_is_not():
    with pytest.raises(UserError, match=r"^task: must be one of .*'detection'.*, got 'depth'"):
        make_task("depth", ModelConfig(), 2)
