"""How a student (or a teacher) is trained: the settings.

In: numbers from a recipe. Out: `TrainConfig`. Next: `rate.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from ray_st.config import require
from ray_st.data.labels import Origin
from ray_st.nodes import require_labels
from ray_st.training.joint import JointConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run."""

    steps: int = 500
    """Optimiser steps."""
    batch_size: int = 16
    """Human images a step, over all workers."""
    pseudo_batch_size: int | None = None
    """Pseudo images a step, over all workers; by default as many as human ones."""
    accumulate: int = 1
    """Parts in which a worker does its share of a step, for batches that do not fit into memory;
    the gradient is that of the whole step, BatchNorms see a part at a time."""
    alpha: float = 1.0
    """Weight of the pseudo loss (others call it unsup_weight), >= 0."""
    loss: Literal["normalised", "plain"] = "normalised"
    """normalised: (L_h + alpha * mean_h/mean_p * L_p) / (1 + alpha); plain: L_h + alpha * L_p."""
    mean_decay: float = 0.99
    """Decay of the moving averages mean_h and mean_p, a step, in [0, 1)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """sgd as in the paper, or adamw for short runs from scratch."""
    momentum: float = 0.9
    """Momentum of sgd, in [0, 1); adamw has its own."""
    lr: float = 0.01
    """Peak learning rate, reached after the warm-up."""
    schedule: Literal["cosine", "step"] = "cosine"
    """After the warm-up: half a cosine to 0 at the last step, or a tenth at each of lr_drops."""
    lr_drops: tuple[int, ...] = ()
    """Steps from which the rate is a tenth of what it was, for schedule step."""
    warmup_steps: int = 50
    """Steps of linear warm-up from warmup_lr to lr."""
    warmup_lr: float | None = None
    """Rate of the first step of the warm-up; by default a hundredth of lr."""
    weight_decay: float = 1e-4
    """Weight decay, on convolution weights only."""
    clip_norm: float = 10.0
    """Largest global norm of the gradient."""
    max_skipped_steps: int = 10
    """Steps in a row whose loss or gradient is no finite number, and which therefore change
    nothing, before the run ends with the one after them; 0: the first one ends it."""
    ema_decay: float | None = None
    """Validate and save a moving average of the weights, of this decay a step (0.9998, say) once
    it is warm, in place of the last ones; by default there is none."""
    freeze: tuple[str, ...] = ()
    """Parameters that do not learn, by patterns of their names: "backbone.*", say."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the model computes in; bf16 by autocast. Weights and losses stay fp32."""
    sync_batchnorm: bool = False
    """BatchNorm statistics over all GPUs and not over each one's images. Several workers need
    use_gpu for it; with one it changes nothing."""
    compile: bool = False
    """Train through torch.compile: minutes at the start, needs a C++ compiler on every node."""
    seed: int = 0
    """Seed of initial weights, image order and views."""
    num_workers: int = 1
    """Training workers; 0 trains inside the calling process, for a debugger."""
    min_workers: int | None = None
    """Elastic: go on with as few as so many workers while nodes are missing; None: never fewer."""
    use_gpu: bool = False
    """One accelerator a worker."""
    cpus_per_worker: int = 2
    """Cores that a worker reserves and computes with."""
    nodes: tuple[str, ...] = ()
    """Labels of the nodes that workers run on, KEY=VALUE each; by default any node."""
    loaders: int = 1
    """Most loading tasks at once, a worker and stream; 0 decodes and augments in the train worker
    itself, in a thread a stream beside the step: for few, fast images."""
    held_images: int = 1_000_000
    """Most pseudo-labelled images whose labels (not pixels) are held in memory; of a larger pool
    the workers read and shuffle some ten thousand at a time."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 200
    """Steps between two resumable checkpoints."""
    max_failures: int = 3
    """How often a dead worker group is started again, from its last checkpoint."""
    evaluate_every: int | None = None
    """Steps between two evaluations on the validation images; null: at the end only."""
    preemption_every: int | None = None
    """Steps between two looks for a notice that a node will be taken away, upon which a checkpoint
    is saved; null: none. All workers wait for each other at a look."""
    trackers: tuple[Literal["wandb", "mlflow"], ...] = ()
    """Who is told what metrics.jsonl is told, besides TensorBoard's files."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every worker holds the whole model; fsdp: only its share of weights, gradients and
    optimiser state, for models too large for one GPU."""
    joint: JointConfig = field(default_factory=JointConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "cpus_per_worker", "log_every", "accumulate"):
            require(getattr(self, name) >= 1, f"train.{name}", "at least 1", getattr(self, name))
        require(self.alpha >= 0, "train.alpha", "0 or more", self.alpha)
        for name in ("mean_decay", "momentum"):
            value = getattr(self, name)
            require(0 <= value < 1, f"train.{name}", "in [0, 1)", value)
        require(self.clip_norm > 0, "train.clip_norm", "above 0", self.clip_norm)
        require(
            self.checkpoint_every >= 1,
            "train.checkpoint_every",
            "at least 1",
            self.checkpoint_every,
        )
        require(self.seed < 2**62, "train.seed", "below 2**62", self.seed)
        for name in (
            "warmup_steps",
            "weight_decay",
            "num_workers",
            "loaders",
            "max_failures",
            "max_skipped_steps",
            "seed",
        ):
            require(getattr(self, name) >= 0, f"train.{name}", "0 or more", getattr(self, name))
        decay, fewest = self.ema_decay, self.min_workers
        require(decay is None or 0 <= decay < 1, "train.ema_decay", "null or in [0, 1)", decay)
        rule = "left out with train.num_workers 0, which trains in the calling process alone"
        require(fewest is None or self.num_workers != 0, "train.min_workers", rule, fewest)
        require(
            fewest is None or 1 <= fewest <= self.num_workers,
            "train.min_workers",
            f"from 1 to train.num_workers ({self.num_workers})",
            fewest,
        )
        require(self.held_images >= 0, "train.held_images", "0 or more", self.held_images)
        self._check_sizes()
        self._check_rate()
        require(
            not self.sync_batchnorm or self.use_gpu or self.num_workers <= 1,
            "train.sync_batchnorm",
            "false for several workers without train.use_gpu",
            self.sync_batchnorm,
            "PyTorch synchronises BatchNorm between GPUs only",
        )
        self._check_loop()

    def _check_loop(self) -> None:
        require_labels(self.nodes, "train.nodes")
        for name in ("evaluate_every", "preemption_every"):
            every = getattr(self, name)
            require(every is None or every >= 1, f"train.{name}", "null or at least 1", every)
        listed = self.trackers
        require(len({*listed}) == len(listed), "train.trackers", "names, each once", listed)
        require(
            not (self.compile and self.parallel == "fsdp"),
            "train.compile",
            "false with train.parallel fsdp",
            self.compile,
        )
        require(
            self.ema_decay is None or self.parallel != "fsdp",
            "train.ema_decay",
            "null with train.parallel fsdp, where no worker holds all weights to average",
            self.ema_decay,
        )
        rule = "null with train.parallel fsdp, where the backbone may run once a step"
        images, is_whole = self.joint.images, self.parallel != "fsdp"
        require(images is None or is_whole, "train.joint.images", rule, images)

    def _check_sizes(self) -> None:
        """Every worker needs an image of either origin for each of its parts of a step."""
        names = [name for name in ("num_workers", "accumulate") if getattr(self, name) > 1]
        fewest = " times ".join(f"train.{name} ({getattr(self, name)})" for name in names)
        least = max(1, self.num_workers) * self.accumulate
        for name, size in (
            ("batch_size", self.batch_size),
            ("pseudo_batch_size", self.num_pseudo),
            ("joint.batch_size", self.num_joint or least),
        ):
            require(size >= least, f"train.{name}", f"at least {fewest or 1}", size)

    def _check_rate(self) -> None:
        require(self.lr > 0, "train.lr", "above 0", self.lr)
        start, drops = self.warmup_lr, self.lr_drops
        require(
            start is None or 0 <= start < self.lr,
            "train.warmup_lr",
            f"from 0 to below train.lr ({self.lr})",
            start,
        )
        is_step = self.schedule == "step"
        require(
            is_step == bool(drops),
            "train.lr_drops",
            f"{'one step or more' if is_step else 'empty'} for train.schedule {self.schedule}",
            drops,
        )
        first, last = max(1, self.warmup_steps), self.steps - 1
        require(
            drops == tuple(sorted({*drops})) and all(first <= drop <= last for drop in drops),
            "train.lr_drops",
            f"rising, from the end of the warm-up to the last step ({first}..{last})",
            drops,
            "move them when you change train.steps",
        )

    def lasting(self, steps: int) -> TrainConfig:
        """Give the same training with another number of steps, its drops moved in proportion.

        A run that would end within its warm-up has no drops: its rate never gets that far.
        """
        first, last = max(1, self.warmup_steps), steps - 1
        moved = {min(max(first, d * steps // self.steps), last) for d in self.lr_drops}
        if moved and first <= last:
            return replace(self, steps=steps, lr_drops=tuple(sorted(moved)))
        return replace(self, steps=steps, lr_drops=(), schedule="cosine")

    @property
    def num_joint(self) -> int:
        """Classified images a step, over all workers; 0 without joint training."""
        if not self.joint.is_on:
            return 0
        return self.joint.batch_size or self.batch_size

    def images_of(self, origin: Origin) -> int:
        """Images of an origin a step, over all workers, where there is such a stream."""
        return {
            Origin.HUMAN: self.batch_size,
            Origin.PSEUDO: self.num_pseudo,
            Origin.JOINT: self.num_joint,
        }[origin]

    @property
    def num_pseudo(self) -> int:
        """Pseudo images a step, when there is a pseudo stream."""
        return self.batch_size if self.pseudo_batch_size is None else self.pseudo_batch_size
