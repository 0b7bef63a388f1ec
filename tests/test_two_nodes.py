"""A head and a worker node, as the README says: a job whose client dies, which is stopped, and sent
again until it is done."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from head import Head, ray_head, ray_worker

from ray_st.data.labels import ClassLabel
from ray_st.data.sources.digits import write_world
from ray_st.recipe import load
from ray_st.verbs.verb import Recipe

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("nodes"),
    pytest.mark.timeout(1800),  # a whole run, on shared cores
]

ROOT = Path(__file__).parents[1]
RECIPE = "demo_classification"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    # Ray's sockets stand in its folder, and their paths may have 107 characters at most.
    with (
        tempfile.TemporaryDirectory(prefix="ray_head_") as place,
        ray_head(Path(place), num_cpus=6, labels="pool=student") as head,
        ray_worker(head, Path(place), num_cpus=4, labels="pool=teacher"),
    ):
        until(lambda: len(nodes(head)) == 2, 120)
        yield head


def until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(1)


def nodes(head: Head) -> dict[str, str]:
    """The pool of each node, by its id."""
    return {
        node["node_id"]: node["labels"]["pool"]
        for node in head.listed("nodes")
        if node["state"] == "ALIVE"
    }


def pools_of(head: Head, kind: str) -> set[str]:
    """In which pools actors of a class have run."""
    pools = nodes(head)
    return {
        pools[actor["node_id"]]
        for actor in head.listed("actors")
        if kind in actor["class_name"] and actor["node_id"] in pools
    }


def submit(head: Head, *flags: str) -> list[str]:
    """The README's command."""
    words = ["ray", "job", "submit", "--address", head.dashboard_url, "--working-dir", "."]
    return [*words, "--", "python", "jobs/run.py", *flags]


def finished(head: Head, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        submit(head, *flags),
        cwd=ROOT, env=head.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_run_whose_client_dies_ends_with_a_student_that_beats_its_teacher(
    cluster: Head, tmp_path: Path
) -> None:
    digits = load(Recipe, ROOT / "jobs" / "recipes" / f"{RECIPE}.yaml").digits
    data = write_world(tmp_path / "world", digits, ClassLabel)
    out = tmp_path / "run"
    flags = [
        *("--config", RECIPE, "--data.train", data.train, "--data.val", data.val),
        *("--data.unlabeled", str(data.unlabeled), "--no-loop.human-only"),
        *("--label.nodes", "pool=teacher", "--train.nodes", "pool=student"),
        *("--train.checkpoint-every", "100", "--out", str(out)),
    ]
    # A label that no node has: one line, at once.
    other = finished(cluster, *flags, "--label.nodes", "pool=techer", "--out", f"{out}_other")
    assert other.returncode == 1
    assert "label.nodes: no node of the cluster has pool=techer (there is pool=" in other.stdout

    client = subprocess.Popen(
        submit(cluster, *flags),
        cwd=ROOT, env=cluster.environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )  # fmt: skip
    checkpoints = out / "teacher" / "ray_train" / "train"
    until(lambda: any(checkpoints.glob("checkpoint_*")), 600)
    client.kill()
    client.wait()
    # The job goes on: its folder is taken, and the second says so.
    second = finished(cluster, *flags)
    assert second.returncode == 1
    taken = rf"out: another ray-st works in {re.escape(str(out))} \(\S+:\d+\); wait until it ends"
    assert re.search(taken, second.stdout)
    # The job ends early. The same words go on.
    (running,) = (job for job in cluster.asked("jobs/") if job["status"] == "RUNNING")
    stop = ["ray", "job", "stop", "--address", cluster.dashboard_url, running["submission_id"]]
    subprocess.run(stop, env=cluster.environment, capture_output=True, check=True)
    assert not (out / "summary.json").exists()
    done = finished(cluster, *flags)
    assert done.returncode == 0, done.stdout + done.stderr

    summary = json.loads((out / "summary.json").read_text())
    figure = summary["figures"][0]
    assert summary["student"][figure] > summary["teacher"][figure]
    verify = ["python", "-m", "ray_st", "verify", str(out / "pseudo"), "--images"]
    verified = subprocess.run(
        [*verify, str(data.unlabeled)],
        cwd=ROOT, env=cluster.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    assert f"{digits.pool_scenes} images, each once" in verified.stdout
    assert pools_of(cluster, "RayTrainWorker") == {"student"}
    assert pools_of(cluster, "TeacherActor") == {"teacher"}
    # What is done is done: the same words a last time start nothing.
    again = finished(cluster, *flags)
    assert again.returncode == 0
    assert json.loads((out / "summary.json").read_text()) == summary
