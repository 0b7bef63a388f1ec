"""`ray-st pretrain`: a backbone to start from, learned from classes or from images alone.

In: class folders (supervised) or any images (simclr). Out: a model folder that `--init.start
imagenet` or `--init.start simclr` takes as `--init.weights`. Next: `train.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from ray_st.cluster.placement import require_fits, training_needs
from ray_st.cluster.session import require_nodes, resources
from ray_st.config import require
from ray_st.data.augment import AugmentConfig
from ray_st.data.sources import DataConfig, open_images
from ray_st.models import ModelConfig
from ray_st.selftraining.pretraining import Pairing, pairing_job, pairing_stage
from ray_st.selftraining.saying import unread
from ray_st.selftraining.watching import watched
from ray_st.tasks.simclr import SimCLRConfig
from ray_st.training.schedule import TrainConfig
from ray_st.verbs import train
from ray_st.verbs.verb import Verb, complete, recipe_of


@dataclass(frozen=True, kw_only=True)
class PretrainVerb(Verb):
    """Learn a backbone."""

    images: str
    """simclr: a folder (path or URI), or a labelled set whose labels are ignored. supervised: a
    folder a class, classes:DIR."""
    method: Literal["simclr", "supervised"] = "simclr"
    """simclr: tell two views of an image from all other images; supervised: classify, which is
    `ray-st train --task classification`."""
    val: str | None = None
    """Images to measure on, classes:DIR; with method supervised only."""
    out: str = "runs/pretrain"
    """Folder of the results; running the same again goes on with it."""
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    simclr: SimCLRConfig = field(default_factory=SimCLRConfig)

    def __post_init__(self) -> None:
        wanted = self.method == "supervised"
        rule = "classes:DIR" if wanted else "left out"
        require(wanted == (self.val is not None), "val", f"{rule} with {self.method}", self.val)


CONFIG = PretrainVerb


def run(config: PretrainVerb, console: Console) -> None:
    """Learn, and leave the model in `config.out`."""
    {"simclr": _pair, "supervised": _classify}[config.method](config, console)


def _classify(config: PretrainVerb, console: Console) -> None:
    training = train.TrainVerb(
        out=config.out,
        address=config.address,
        dry_run=config.dry_run,
        task="classification",
        data=DataConfig(train=config.images, val=config.val or ""),
        model=config.model,
        augment=config.augment,
        train=config.train,
    )
    train.run(training, console)


def _pair(config: PretrainVerb, console: Console) -> None:
    pairing, images = Pairing.of(config), open_images(config.images)

    def work(where: str) -> dict[str, Any]:
        out = Path(where)
        require_nodes(train=config.train.nodes)
        require_fits(training_needs(config.train, has_pseudo=True), **resources())
        job = pairing_job(pairing, images, recipe_of(config))
        with watched({"pretrain": config.train.steps}, console, out) as counters:
            return pairing_stage(job, out, counters["pretrain"])

    plan = f"{images.num_rows} images to learn from"
    if (summary := complete(config, console, plan, work)) is not None:
        learned = summary["simclr"]
        loss = "nan" if learned["loss"] is None else f"{learned['loss']:.2f}"
        result = f"loss {loss}  accuracy {learned['accuracy']:.0%}{unread(summary)}"
        console.print(f"{'pretrain':<11}{result}", highlight=False)
