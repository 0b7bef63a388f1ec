"""The order of images under kills and other numbers of workers, without Ray."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ray_st.data.augment import AugmentConfig
from ray_st.data.feed import Share
from ray_st.data.labels import Detections, Origin
from ray_st.data.order import Rows, images_at
from ray_st.data.rows import pack
from ray_st.training.streams import Stream, paired_batches
from ray_st.training.trail import Trail

pytestmark = pytest.mark.pure

SIDE_PX, STEPS = 8, 24


@dataclass(frozen=True)
class Table:
    """`Rows` in this process."""

    table: pa.Table

    @property
    def num_rows(self) -> int:
        return int(self.table.num_rows)

    def at(self, positions: np.ndarray, seed: int) -> tuple[pa.Table, np.ndarray]:
        indices, epochs = images_at(positions, num_images=self.num_rows, seed=seed)
        return self.table.take(pa.array(indices)), epochs


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("images") / "one.png"
    Image.fromarray(np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)).save(file)
    return file


def rows(image: Path, count: int, origin: Origin) -> Rows:
    return Table(
        pack(
            image_ids=list(range(count)),
            uris=[str(image)] * count,
            sizes_hw=[(SIDE_PX, SIDE_PX)] * count,
            labels=[Detections.of([[1, 1, 5, 5]], [0])] * count,
            origin=origin,
        )
    )


def streams(image: Path, seed: int) -> list[Stream]:
    shared: dict[str, Any] = {"size_px": SIDE_PX, "augment": AugmentConfig(), "loaders": 0}
    seeds = {"order_seed": seed, "view_seed": seed}
    return [
        Stream(rows=rows(image, count, origin), origin=origin, batch_size=size, **shared, **seeds)
        for count, origin, size in ((5, Origin.HUMAN, 4), (11, Origin.PSEUDO, 7))
    ]


def gang(two: list[Stream], num_workers: int, first: int, last: int) -> list[Any]:
    """What each worker sees of some steps; a list of batches a step."""
    shares = (Share(worker=worker, num_workers=num_workers) for worker in range(num_workers))
    parts = [paired_batches(*two, first, last, share) for share in shares]
    return list(zip(*parts, strict=True))


def follow(trail: Trail, steps: list[Any], first: int) -> None:
    for step, batches in enumerate(steps, first):
        for batch in batches:
            trail.add(step, batch.image_ids, batch.origins)


def test_workers_whose_shares_differ_hold_each_image_of_a_step_once(image: Path) -> None:
    two = streams(image, 3)
    alone = gang(two, 1, 0, STEPS)
    for num_workers in (2, 3, 4):
        for (whole,), parts in zip(alone, gang(two, num_workers, 0, STEPS), strict=True):
            for origin in (0, 1):
                of_one = whole.image_ids[whole.origins == origin].tolist()
                of_all = [
                    i for part in parts for i in part.image_ids[part.origins == origin].tolist()
                ]
                assert of_all == of_one
    # 7 pseudo images of 4 workers: shares of 1, 2, 2, 2.
    assert [int((p.origins == 1).sum()) for p in gang(two, 4, 0, 1)[0]] == [1, 2, 2, 2]


@pytest.mark.parametrize("schedule", range(20))
def test_whatever_is_killed_and_resized_the_order_is_one(image: Path, schedule: int) -> None:
    """A gang of random size runs on and dies; the next goes on from its last checkpoint."""
    rng = np.random.default_rng(schedule)
    two = streams(image, schedule)
    undisturbed = Trail()
    follow(undisturbed, gang(two, 1, 0, STEPS), 0)
    saved, step, sizes = Trail(), 0, set()
    while step < STEPS:
        num_workers, dies_at = int(rng.integers(1, 5)), min(STEPS, step + int(rng.integers(1, 9)))
        steps = gang(two, num_workers, step, dies_at)
        kept = len(steps) if dies_at == STEPS else int(rng.integers(0, len(steps) + 1))
        follow(saved, steps[:kept], step)  # what the checkpoint knows; the rest is done again
        saved.joined()
        sizes.add(num_workers)
        step += kept
    assert len(sizes) > 1
    assert saved.joined() == undisturbed.joined()
    skipped = Trail()
    follow(skipped, gang(two, 1, 1, STEPS), 1)
    assert skipped.joined() != undisturbed.joined()
