"""The `label:` section of a recipe: how a pool is read, and on what the teacher runs.

In: a recipe. Out: `LabelConfig`. Next: `images.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_st.config import require
from ray_st.nodes import require_labels

_MOST_SCALE = 4.0  # sixteen times the pixels


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Settings of labelling."""

    actors: tuple[int, int] = (1, 2)
    """Least and most teacher actors; 0 0 labels inside the calling process, for a debugger."""
    first_actors: int | None = None
    """Teacher actors to start with; by default the least."""
    cpus_per_actor: float = 1.0
    """Cores that a teacher actor reserves and computes with."""
    gpus_per_actor: float = 0.0
    """Accelerators a teacher actor; a fraction packs several on one."""
    nodes: tuple[str, ...] = ()
    """Labels of the nodes that teacher actors run on, KEY=VALUE each; by default any node."""
    batch_size: int = 32
    """Images a forward pass."""
    block_images: int = 512
    """Images that one decoding task reads, and that are done again when its process dies."""
    file_images: int = 4096
    """Images a Parquet file, at least: what an interrupted run may have to label again."""
    readers: int = 2
    """Most tasks at once that fetch and decode images."""
    flip: bool = False
    """Look at each image mirrored left to right too; what is seen in all its views is merged."""
    scales: tuple[float, ...] = (1.0,)
    """Sizes to look at each image at, times model.image_size_px; each costs a forward pass."""
    max_failure_rate: float = 0.5
    """Share of a shard's images that may fail, 0 to 1; a run in which more fail stops early."""

    def __post_init__(self) -> None:
        least, most = self.actors
        require(0 <= least <= most, "label.actors", "two numbers, least <= most", self.actors)
        require(most == 0 or least >= 1, "label.actors", "0 0, or at least 1 actor", self.actors)
        first = self.first_actors
        require(
            first is None or (first > 0 and least <= first <= most),
            "label.first_actors", "between the two of label.actors", first,
        )  # fmt: skip
        rate = self.max_failure_rate
        require(0 <= rate <= 1, "label.max_failure_rate", "0 to 1", rate)
        require(self.cpus_per_actor > 0, "label.cpus_per_actor", "above 0", self.cpus_per_actor)
        require(self.gpus_per_actor >= 0, "label.gpus_per_actor", "0 or more", self.gpus_per_actor)
        require_labels(self.nodes, "label.nodes")
        for name in ("batch_size", "block_images", "file_images", "readers"):
            require(getattr(self, name) >= 1, f"label.{name}", "at least 1", getattr(self, name))
        scales, rule = self.scales, f"one or more, each above 0, at most {_MOST_SCALE} and once"
        fits = all(0 < scale <= _MOST_SCALE for scale in scales)
        is_list = 0 < len(scales) == len(set(scales))
        require(is_list and fits, "label.scales", rule, scales, "1 alone looks once")
