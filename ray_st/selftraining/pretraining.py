"""Learning a backbone from images alone: one stream shown twice, and a summary of its own.

In: IMAGE_ROWs and sections of a recipe. Out: a model folder that a detector can start from, with
its summary.json. Next: `loop.py`.

Two streams of one order and two view seeds make up the pairs, so order, resuming, checkpoints and
workers are those of every other training. Both are of one origin: the loss balance then has nothing
to weigh, and gives the mean over all anchors of both halves, which is the symmetric NT-Xent itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ray_st.config import require
from ray_st.data.augment import AugmentConfig
from ray_st.data.feed import HeldRows
from ray_st.data.labels import ClassLabel, Origin
from ray_st.data.rows import pack
from ray_st.models import ModelConfig
from ray_st.models.saved import versions
from ray_st.progress import Counter
from ray_st.selftraining.course import course_of
from ray_st.selftraining.folder import write_summary
from ray_st.tasks.simclr import SimCLR, SimCLRConfig
from ray_st.training.alarms import alarms
from ray_st.training.checkpoints import load_log
from ray_st.training.job import Job
from ray_st.training.loop import fit
from ray_st.training.rehearsal import rehearse
from ray_st.training.schedule import TrainConfig
from ray_st.training.streams import Stream
from ray_st.training.trackers.opening import require_trackers

NAME = "simclr"  # of the model in its card, by which a start is recognised


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """The sections of a recipe that decide what is learned from pairs of views."""

    model: ModelConfig
    augment: AugmentConfig
    train: TrainConfig
    simclr: SimCLRConfig

    @classmethod
    def of(cls, config: Any) -> Pairing:
        """Pick them from a verb's config; raises `UserError` for a model that cannot be trained."""
        train = config.train
        # Projections of all workers are compared with each other, as many of each.
        require(
            train.batch_size % max(1, train.num_workers) == 0,
            "train.batch_size",
            f"a multiple of train.num_workers ({train.num_workers}) for pairs of views",
            train.batch_size,
        )
        require(
            train.min_workers is None,
            "train.min_workers",
            "left out for pairs of views",
            train.min_workers,
        )
        every, rule = train.evaluate_every, "null where nothing is validated"
        require(every is None, "train.evaluate_every", rule, every, "pass --method supervised")
        images, rule = train.joint.images, "null where there is no task to join"
        require(images is None, "train.joint.images", rule, images, "pass --method supervised")
        require_trackers(train)
        rehearse(config.model, NAME, config.simclr.projection, train, has_pseudo=True)
        return cls(
            model=config.model, augment=config.augment, train=config.train, simclr=config.simclr
        )


def instances(images: pa.Table) -> pa.Table:
    """LABEL_ROWs of which every image is a class of its own."""
    return pack(
        image_ids=images["image_id"].to_pylist(),
        uris=images["uri"].to_pylist(),
        sizes_hw=[(0, 0)] * images.num_rows,  # not known before decoding
        labels=[ClassLabel.of([i]) for i in range(images.num_rows)],
        origin=Origin.HUMAN,
        kind=ClassLabel,
    )


def pairing_job(pairing: Pairing, images: pa.Table, recipe: Mapping[str, Any]) -> Job:
    """Put the rows into the object store and describe the training run."""
    train = pairing.train
    first = Stream(
        rows=HeldRows.of(instances(images)),
        origin=Origin.HUMAN,
        batch_size=train.batch_size,
        size_px=pairing.model.image_size_px,
        augment=pairing.augment,
        order_seed=2 * train.seed,
        view_seed=2 * train.seed,
        loaders=train.loaders,
    )
    return Job(
        task=NAME,
        classes=(),
        model=pairing.model,
        train=train,
        human=first,
        pseudo=replace(first, view_seed=first.view_seed + 1),
        objective=SimCLR(temperature=pairing.simclr.temperature),
        num_outputs=pairing.simclr.projection,
        val=None,
        num_val=0,
        init=None,
        recipe=recipe,
        counter=None,
    )


def pairing_stage(job: Job, out: Path, counter: Counter | None) -> dict[str, Any]:
    """Train into a folder of its own; returns its summary.

    `loss` and `accuracy`, the share of views whose twin is the nearest of all, are the last step's.
    """
    begun = time.monotonic()
    fit(replace(job, counter=counter), out)
    log = load_log(out)
    summary = {
        "verb": "pretrain",
        NAME: {"loss": log[-1]["loss"], **log[-1]["parts"]},
        "images": job.human.rows.num_rows,
        "steps": job.train.steps,
        "unreadable": {"training_views": sum(row["unreadable_images"] for row in log)},
        "warnings": alarms(log),
        **course_of(job, str(out), log),
        "seconds": {"pretrain": time.monotonic() - begun},
        "versions": versions(),
    }
    write_summary(out, summary)
    return summary
