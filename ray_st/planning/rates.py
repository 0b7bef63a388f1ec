"""What labelling and training cost an image, on the machine where it was measured.

In: numbers. Out: `LabelRates`, `TrainRates`. Next: `fleet.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ray_st.config import require


@dataclass(frozen=True, kw_only=True)
class Alone:
    """`LabelRates` of these names, where nothing else is at work."""

    read_s: float
    predict_s: float
    write_s: float
    start_s: float


@dataclass(frozen=True, kw_only=True)
class LabelRates:
    """Of labelling; seconds are of one core or one teacher alone."""

    read_s: float
    """To fetch an image, decode it and hand it over."""
    predict_s: float
    """To label it, from the view to the row, by one teacher."""
    write_s: float
    """To write it."""
    start_s: float
    """From the opening of a shard to its first label."""
    in_bytes: float
    """Of its file."""
    out_bytes: float
    """Of its labels at rest."""
    view_bytes: float
    """Of its decoded view."""
    device: str
    """What the teacher ran on: cpu, cuda, or given."""
    shares_cores: bool
    """Whether stages were measured one by one, so that on one machine they share its cores; else
    beside each other, as they are run."""
    source: str
    """Where the numbers come from, in words."""
    processes: int = 1
    """How many did the same side by side when they were taken."""
    alone: Alone | None = None
    """What one process takes by itself; None where that is not known."""

    def at(self, busy: float) -> LabelRates:
        """Between one process alone and all of them, by how many are at work on this machine."""
        if self.alone is None or self.processes < 2:
            return self
        share = min(1.0, max(0.0, (busy - 1) / (self.processes - 1)))
        mixed = {
            name: (1 - share) * value + share * getattr(self, name)
            for name, value in vars(self.alone).items()
        }
        return replace(self, **mixed)

    def __post_init__(self) -> None:
        require(self.processes >= 1, "processes", "1 or more", self.processes)
        for name in (
            "read_s", "predict_s", "write_s", "start_s", "in_bytes", "out_bytes",
            "view_bytes",
        ):  # fmt: skip
            require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        require(self.predict_s > 0, "predict_s", "above 0", self.predict_s)


@dataclass(frozen=True, kw_only=True)
class TrainRates:
    """Of training: what a step of one worker takes, and a loader."""

    fixed_s: float
    """Of a step, whatever it holds."""
    image_s: float
    """Of a step, more for each image of the worker's."""
    load_s: float
    """Of one loading process, an image of either origin."""
    gradient_bytes: float
    """That workers exchange in a step."""
    device: str
    """cpu or cuda."""
    source: str
    """Where the numbers come from, in words."""

    def __post_init__(self) -> None:
        for name in ("fixed_s", "image_s", "load_s", "gradient_bytes"):
            require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        sums = self.fixed_s + self.image_s
        require(sums > 0, "fixed_s + image_s", "above 0", sums)
