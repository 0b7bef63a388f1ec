"""A node gives notice, as a spot instance does: the state is kept at once, and only once."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import ray
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from test_cluster import LEARNING, WORLD, student_job

from ray_st.data.labels import Detections
from ray_st.data.sources import open_labeled
from ray_st.data.sources.digits import write_world
from ray_st.training.loop import fit

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("ray_cluster")]

STEPS, NOTICE_AT = 60, 2


@dataclass(frozen=True, kw_only=True)
class Warns:
    """A counter that has its own node give notice, and says which checkpoints it sees then."""

    out: str

    def put(self, done: int, note: str = "") -> None:
        if done == NOTICE_AT:
            wait_for_watcher()
            context = ray.get_runtime_context()
            in_an_hour_ms = int(time.time() + 3600) * 1000
            GcsClient(address=context.gcs_address).drain_node(
                context.get_node_id(),
                DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
                "the spot market",
                in_an_hour_ms,
            )
        found = Path(self.out).glob("ray_train/train/checkpoint_*")
        stored = sorted(each.name for each in found if each.is_dir())
        if done > NOTICE_AT and not stored:
            time.sleep(1)  # the notice gets round in seconds, while there are steps left
        with Path(self.out, "seen.jsonl").open("a") as file:
            file.write(json.dumps([done, stored]) + "\n")


def wait_for_watcher() -> None:
    """Nothing starts on a node that has given notice, Ray Train's own watcher included."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        actors = ray._private.state.actors().values()
        found = [each for each in actors if "PreemptionWatcher" in each["ActorClassName"]]
        if any(each["State"] == "ALIVE" for each in found):
            return
        time.sleep(0.2)
    raise AssertionError("no watcher")


def test_a_notice_is_followed_by_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.5")
    write_world(tmp_path / "world", WORLD, Detections)
    human, val, pool = (
        open_labeled(f"coco:{tmp_path}/world/instances_{name}.json")
        for name in ("train", "val", "pool")
    )
    train = replace(
        LEARNING.train, steps=STEPS, checkpoint_every=1000, preemption_every=1, loaders=0
    )
    out = tmp_path / "out"
    out.mkdir()
    job = replace(student_job(human, val, pool, train), counter=Warns(out=str(out)))  # type: ignore[arg-type]
    assert fit(job, out)["AP"] is not None
    seen = dict(json.loads(line) for line in (out / "seen.jsonl").read_text().splitlines())
    assert seen[NOTICE_AT] == []
    assert len(seen[STEPS]) == 1  # nothing else was due before the end
