"""All checks in order: what a run would be refused for, or disappoint by.

In: the sections of a recipe. Out: findings, told as they are found, and the first views to draw.
What can be checked without what was refused is checked all the same. Next: `pretraining.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
import torch
from torch import nn

from ray_st.config import UserError
from ray_st.data.labels import Detections, Labels, Origin
from ray_st.labeling.looks import looks_of
from ray_st.labeling.stored import StoredRows
from ray_st.models import build
from ray_st.selftraining.checkup.finding import Finding
from ray_st.selftraining.checkup.first_views import FirstViews, first_views, surviving_labels
from ray_st.selftraining.checkup.fit import fits
from ray_st.selftraining.checkup.memory import needed_memory
from ray_st.selftraining.checkup.objects import fit_anchors, worst_images
from ray_st.selftraining.checkup.sets import Sampling, check_files, check_labels, check_objects
from ray_st.selftraining.checkup.settings import alpha, batches, checkpoints, passes, schedule
from ray_st.selftraining.checkup.start_loss import as_expected
from ray_st.selftraining.checkup.trial_step import Trial, batches_of, try_steps
from ray_st.selftraining.checkup.verdict import needed_time, sound_numbers, too_large
from ray_st.selftraining.learning import Learning, read_init
from ray_st.selftraining.live import beside_training, require_possible
from ray_st.selftraining.materials import Materials, open_materials
from ray_st.selftraining.pseudo_look import PseudoLook, look_at_pseudo
from ray_st.selftraining.surroundings import room_at
from ray_st.selftraining.sweep import require_workers
from ray_st.tasks import make_task

T = TypeVar("T")
MOST_DRAWN = 8  # images with boxes that no anchor fits


@dataclass(kw_only=True, eq=False)
class Examination:
    """What is known so far; `config` holds the sections of `run` and `train`, and `pseudo`."""

    config: Any
    sampling: Sampling
    tell: Callable[[Finding], None]
    findings: list[Finding] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    joint_classes: tuple[str, ...] = ()
    unseen: pa.Table | None = None  # images with boxes that no anchor fits, with these alone
    first: list[FirstViews] = field(default_factory=list)  # human, then the others there are

    def note(self, found: Iterable[Finding]) -> None:
        """Keep findings, and tell them."""
        for finding in found:
            self.findings.append(finding)
            self.tell(finding)

    def tried(self, work: Callable[[], T]) -> T | None:
        """Do what a run does first; None where it is refused, which is a finding."""
        try:
            return work()
        except UserError as error:
            self.note([Finding.refusal(error)])
            return None

    @property
    def kind(self) -> type[Labels]:
        """The kind of labels that is learned from."""
        return make_task(self.config.task, self.config.model, 1).kind


def examine(
    config: Any, address: str | None, sampling: Sampling, tell: Callable[[Finding], None]
) -> Examination:
    """Make all checks; starts nothing on a cluster, and only looks at it where there is one."""
    done = Examination(config=config, sampling=sampling, tell=tell)
    learning = done.tried(lambda: Learning.of(config))
    joint = config.train.joint.images
    materials = done.tried(lambda: open_materials(config.data, done.kind, joint))
    pseudo = None if materials is None else _pseudo(done, materials)
    if materials is not None:
        done.classes = materials.human.classes
        if materials.joint is not None:
            done.joint_classes = materials.joint.classes
        _check_data(done, materials, pseudo, has_model=learning is not None)
    has_pool = materials is not None and materials.pool is not None
    _check_settings(done, materials, pseudo, has_pool=has_pool)
    trial = None
    if learning is not None and materials is not None:
        trial = _check_steps(done, learning, materials, pseudo)
    _check_room(done, address, trial, has_pool=has_pool)
    return done


def _pseudo(done: Examination, materials: Materials) -> PseudoLook | None:
    """Pseudo labels as `train --pseudo` takes them."""
    config = done.config
    if config.pseudo is None:
        return None
    found = done.tried(
        lambda: look_at_pseudo(
            config.pseudo,
            config.policy,
            materials.human,
            done.kind,
            done.sampling,
            config.train.held_images,
        )
    )
    if found is None:
        return None
    done.note(found.findings)
    return found


def _check_data(
    done: Examination, materials: Materials, pseudo: PseudoLook | None, *, has_model: bool
) -> None:
    config, human, val = done.config, materials.human, materials.val
    done.note(check_labels(human, val, done.kind, done.sampling))
    if has_model and done.kind is Detections:
        fitted = fit_anchors(human.rows, config.model)
        done.note(check_objects(human, val, fitted, config.model, config.detect))
        done.unseen = worst_images(human.rows, fitted, MOST_DRAWN)
    sets, tolerated = {"data.val": val.rows, "data.train": human.rows}, {}
    if materials.pool is not None:
        field_ = "data.unlabeled" if config.data.unlabeled else "data.labeled_images"
        sets[field_], tolerated[field_] = materials.pool, config.label.max_failure_rate
    if pseudo is not None:
        sets["pseudo"] = pseudo.held
    sides_px = dict.fromkeys(sets, config.model.image_size_px)
    if materials.joint is not None:
        name = "train.joint.images"
        sets[name] = materials.joint.rows
        sides_px[name] = config.train.joint.side_px(config.model.image_size_px)
    done.note(check_files(sets, sides_px, done.sampling, tolerated))


def _check_settings(
    done: Examination, materials: Materials | None, pseudo: PseudoLook | None, *, has_pool: bool
) -> None:
    config, train = done.config, done.config.train
    done.note(schedule(train, name="training", field="train.steps"))
    done.note(checkpoints(train))
    teacher_steps = config.loop.teacher_steps
    if has_pool and teacher_steps is not None:
        teacher = train.lasting(teacher_steps)
        done.note(schedule(teacher, name="teacher", field="loop.teacher_steps"))
    if has_pool and config.sweep.alphas:
        done.tried(lambda: require_workers(config.sweep, train))
        trial = train.lasting(config.sweep.steps)
        done.note(schedule(trial, name="sweep", field="sweep.steps"))
    if pseudo is not None or has_pool:
        done.note(alpha(train))
    if materials is None:
        return
    images = materials.human.rows.num_rows
    others = pseudo.rows if pseudo is not None else materials.pool
    done.note(passes(train, images, None if others is None else others.num_rows))
    if materials.pool is not None:
        done.tried(lambda: looks_of(config.label, config.model, config.task))
        classes = materials.human.classes
        done.tried(lambda: config.policy.require_known(done.kind, classes))
        if config.loop.live:
            done.tried(lambda: require_possible(config.label, config.policy))


def _check_steps(
    done: Examination, learning: Learning, materials: Materials, pseudo: PseudoLook | None
) -> Trial | None:
    """Make the first views, and train on them for a few steps."""
    config, train, human = done.config, learning.train, materials.human

    def views_of(rows: pa.Table | StoredRows, origin: Origin) -> FirstViews:
        size_px = learning.side_px(origin)
        return first_views(rows, origin, train, size_px=size_px, augment=learning.augment)

    done.first = [views_of(human.rows, Origin.HUMAN)]
    beside = []
    if pseudo is not None:
        done.first.append(views_of(pseudo.rows, Origin.PSEUDO))
    elif materials.pool is not None:
        # A student's step, before there is one: human-labelled images stand in.
        beside.append(views_of(human.rows, Origin.PSEUDO))
    if materials.joint is not None:
        done.first.append(views_of(materials.joint.rows, Origin.JOINT))
    for each in done.first:
        done.note(surviving_labels(each))
    classes, seen = human.classes, sorted([*done.first, *beside], key=lambda each: each.origin)
    has_norms = _has_norms(learning, len(classes))
    has_pseudo = any(each.origin is Origin.PSEUDO for each in seen)
    done.note(batches(train, human.rows.num_rows, has_norms=has_norms, has_pseudo=has_pseudo))
    init = done.tried(lambda: read_init(config.init, learning, classes, config.data.train))
    if init is None and config.init.start != "random":
        return None
    shares = batches_of(seen, train.num_workers)
    task, joint = learning.make_task(len(classes)), len(done.joint_classes)
    try:
        trial = try_steps(shares, task, learning.model, train, init, len(classes), joint)
    except torch.OutOfMemoryError:
        done.note(too_large(len(shares[0])))
        return None
    if trial.before is not None:
        done.note(as_expected(trial.before))
    done.note(sound_numbers(trial, train))
    done.note(needed_time(trial, seen, train))
    return trial


def _has_norms(learning: Learning, num_classes: int) -> bool:
    with torch.device("meta"):
        model = build(learning.model, learning.task, num_classes)
    return any(isinstance(each, nn.BatchNorm2d) for each in model.modules())


def _check_room(
    done: Examination, address: str | None, trial: Trial | None, *, has_pool: bool
) -> None:
    room = done.tried(lambda: room_at(address))
    if room is None:
        return
    train = done.config.train
    has_pseudo = done.config.pseudo is not None
    label = done.config.label
    done.note(fits(train, label, room, has_pseudo=has_pseudo, has_pool=has_pool))
    if has_pool and done.config.loop.live:  # both at once
        done.tried(lambda: beside_training(label, train, cpus=room.cpus, gpus=room.gpus))
    if trial is None:
        return
    nodes = room.gpu_memory_bytes if train.use_gpu else room.memory_bytes
    is_like = trial.held.device == ("cuda" if train.use_gpu else "cpu")
    done.note(needed_memory(trial.held, train, nodes if is_like else (), room.name))
