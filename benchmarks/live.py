"""Learning while the teacher labels, against labelling first: wall time to a student and a store.

The same teacher, pool, student and steps, on the same cores: once `label`, then `train --pseudo`;
once both at a time, as `--loop.live` does. Each way ends with a trained student and a store that
`verify` finds nothing wrong with; the first has the better-informed early steps, which no time
tells.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pairs import machine
from world import MODEL, random_model, scenes

from ray_st.cluster.session import connected, resources
from ray_st.data.augment import AugmentConfig
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import LabeledSet
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.store import Store
from ray_st.labeling.teacher import SavedTeacher
from ray_st.labeling.verify import findings
from ray_st.selftraining.acceptance import read_chosen
from ray_st.selftraining.learning import Learning, training_job
from ray_st.selftraining.live import beside_training, live_choice, live_stages
from ray_st.selftraining.stages import label_stage, train_stage
from ray_st.tasks import make_task
from ray_st.training.job import Job
from ray_st.training.schedule import TrainConfig

LABEL = LabelConfig(actors=(1, 1), readers=1, block_images=128)
POLICY = PolicyConfig(score_threshold=0.05)


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What both ways are made of."""

    human: LabeledSet
    pool: LabeledSet
    learning: Learning
    teacher: SavedTeacher

    def labelling(self, out: Path, config: LabelConfig) -> Callable[[], dict[str, Any]]:
        """What labels the pool into a folder."""
        images = Images.of_rows(self.pool.rows.select(IMAGE_ROW.names).cast(IMAGE_ROW))
        return partial(label_stage, images, self.teacher, str(out), config, POLICY, None)

    def job(self, pseudo: Any) -> Job:
        """The student's training."""
        val = replace(self.human, rows=self.human.rows.slice(0, 8))
        return training_job(
            self.learning, human=self.human, val=val, pseudo=pseudo, init=None, recipe={}
        )

    def one_after_the_other(self, out: Path) -> None:
        """Label, then train."""
        self.labelling(out / "pseudo", LABEL)()
        job = self.job(read_chosen(str(out / "pseudo")))
        train_stage(job, out / "student", None)

    def live(self, out: Path) -> None:
        """Both at once."""
        train = self.learning.train
        config = beside_training(LABEL, train, **resources())
        live_stages(
            self.labelling(out / "pseudo", config),
            lambda rows: train_stage(self.job(rows), out / "student", None),
            out / "pseudo",
            live_choice(self.teacher, POLICY, None),
            batch_size=train.num_pseudo,
            record=out / "live.json",
        )


def seconds(way: Callable[[Path], None], images: int) -> float:
    """Wall time of a way; its store must be whole."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        way(Path(folder))
        took = time.monotonic() - begun
        store = Store(f"{folder}/pseudo/raw")
        assert findings(store) == []
        assert sum(shard.facts["rows"] for shard in store.shards() if shard.facts) == images
        return took


def main() -> None:
    """Print each pair, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=150)
    given = parser.parse_args()
    train = TrainConfig(steps=given.steps, batch_size=8, cpus_per_worker=1, loaders=0)
    learning = Learning(task="detection", model=MODEL, augment=AugmentConfig(), train=train)
    print(machine())
    with tempfile.TemporaryDirectory() as folder, connected("local"):
        human, pool = (scenes(Path(folder, str(n)), n) for n in (64, given.images))
        task = make_task("detection", MODEL, len(human.classes))
        teacher = SavedTeacher(saved=random_model(human.classes, MODEL), task=task)
        stages = Stages(human=human, pool=pool, learning=learning, teacher=teacher)
        ratios = []
        for pair in range(given.pairs):
            ways = [stages.one_after_the_other, stages.live]
            took = {
                way.__name__: seconds(way, given.images)
                for way in (ways if pair % 2 == 0 else reversed(ways))
            }
            ratios.append(took["live"] / took["one_after_the_other"])
            print(f"  pair {pair + 1}: {took}  ratio {ratios[-1]:.3f}", flush=True)
    low, high = min(ratios), max(ratios)
    print(
        f"  live / one after the other: {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
