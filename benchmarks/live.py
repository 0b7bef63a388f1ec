"""Learning while the teacher labels, against labelling first: wall time to a student and a store.

    python benchmarks/live.py [--pairs N] [--images N] [--steps N]

The same teacher, pool, student and steps, on the same cores: once `label`, then `train --pseudo`;
once both at a time, as `--loop.live` does. Each way ends with a trained student and a store that
`verify` finds nothing wrong with; the first has the better-informed early steps, which no time
tells. The pool names the same few files in turn: to write as many scenes takes longer than a pair.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pairs import in_turn, machine, middle, pairs_parser
from world import MODEL, joint_job, random_model, scenes

from ray_st.cluster.session import connected, resources
from ray_st.data.rows import IMAGE_ROW
from ray_st.data.sources import LabeledSet
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.policy import PolicyConfig
from ray_st.labeling.store import Store
from ray_st.labeling.teacher import SavedTeacher
from ray_st.labeling.verify import findings
from ray_st.selftraining.acceptance import read_chosen
from ray_st.selftraining.live import beside_training, live_choice, live_stages
from ray_st.selftraining.stages import label_stage, train_stage
from ray_st.tasks import make_task
from ray_st.training.schedule import TrainConfig

LABEL = LabelConfig(actors=(1, 1), readers=1, block_images=128)
POLICY = PolicyConfig(score_threshold=0.05)
FILES = 256  # different ones in the pool


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What both ways are made of."""

    human: LabeledSet
    pool: pa.Table  # IMAGE_ROWs
    train: TrainConfig
    teacher: SavedTeacher

    def labelling(self, out: Path, config: LabelConfig) -> Callable[[], dict[str, Any]]:
        """What labels the pool into a folder."""
        images = Images.of_rows(self.pool)
        return partial(label_stage, images, self.teacher, str(out), config, POLICY, None)

    def one_after_the_other(self, out: Path) -> None:
        """Label, then train."""
        self.labelling(out / "pseudo", LABEL)()
        pseudo = read_chosen(str(out / "pseudo"))
        train_stage(joint_job(self.human, pseudo, self.train), out / "student", None)

    def live(self, out: Path) -> None:
        """Both at once."""
        config = beside_training(LABEL, self.train, **resources())
        live_stages(
            self.labelling(out / "pseudo", config),
            lambda rows: train_stage(
                joint_job(self.human, rows, self.train), out / "student", None
            ),
            out / "pseudo",
            live_choice(self.teacher, POLICY, None),
            batch_size=self.train.num_pseudo,
            record=out / "live.json",
        )


def pool_of(files: LabeledSet, count: int) -> pa.Table:
    """IMAGE_ROWs that name the files of some scenes in turn."""
    rows = files.rows.select(IMAGE_ROW.names)
    rows = rows.take(pa.array(np.arange(count) % rows.num_rows))
    return rows.set_column(0, IMAGE_ROW.field(0), pa.array(np.arange(count))).cast(IMAGE_ROW)


def seconds(way: Callable[[Path], None], images: int) -> float:
    """Wall time of a way; its store must be whole."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        way(Path(folder))
        took = time.monotonic() - begun
        store = Store(f"{folder}/pseudo/raw")
        assert findings(store) == []
        assert sum(shard.facts["rows"] for shard in store.shards() if shard.facts) == images
        print(f"    {way.__name__}: {took:.1f} s", flush=True)
        return took


def main() -> None:
    """Print each pair, and the median ratio."""
    parser = pairs_parser(__doc__ or "")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    train = TrainConfig(steps=given.steps, batch_size=8, cpus_per_worker=1, loaders=0)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder, connected("local"):
        human, files = (scenes(Path(folder, str(n)), n) for n in (64, FILES))
        task = make_task("detection", MODEL, len(human.classes))
        teacher = SavedTeacher(saved=random_model(human.classes, MODEL), task=task)
        pool = pool_of(files, given.images)
        stages = Stages(human=human, pool=pool, train=train, teacher=teacher)
        ratios = []
        for live, apart in in_turn(
            lambda: seconds(stages.live, given.images),
            lambda: seconds(stages.one_after_the_other, given.images),
            given.pairs,
        ):
            ratios.append(live / apart)
            print(f"  pair {len(ratios)}: ratio {ratios[-1]:.3f}", flush=True)
    print(f"  wall time, live / one after the other: median {middle(ratios)}")


if __name__ == "__main__":
    main()
