"""What the simulator is asked, and what it answers.

In: images, seconds an image of each stage, nodes. Out: `Scenario`, `Outcome`. Next:
`shard.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the cluster."""

    cores: int  # for reading and writing, and for teachers that have none of their own
    teachers: int = 0
    up_s: float = 0.0  # after the start of the run
    is_spot: bool = False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is to be labelled, and by what."""

    images: int
    read_s: float  # of one core, an image
    predict_s: float  # of one teacher, an image
    write_s: float  # of one core, an image
    nodes: tuple[Node, ...]
    readers: int  # most reading tasks at once
    block_images: int = 512
    blocks_a_file: int = 8
    shard_images: int = 1_000_000
    start_s: float = 0.0  # from the opening of a shard, or a node that came late, to first work
    publish_s: float = 0.0  # from the last file of a shard to the end of it
    driver_s: float = 0.0  # of the one driver, a block
    ahead: int = 2  # blocks that wait for each teacher, at most
    teacher_cores: int = 0  # taken from the others while a teacher works
    interruptions_per_hour: float = 0.0  # of a spot node
    restart_s: float = 300.0  # until another node stands in its place
    seed: int = 0

    def __post_init__(self) -> None:
        assert any(node.teachers for node in self.nodes), "a pool needs a teacher"
        assert any(node.cores for node in self.nodes), "reading needs a core"
        assert self.readers > 0, "reading needs a reader"


@dataclass(kw_only=True)
class Outcome:
    """How it went."""

    seconds: float = 0.0
    images: int = 0  # written
    read: int = 0  # images, some again
    labelled: int = 0  # images, some again
    interruptions: int = 0
    lost: int = 0  # blocks that lay on nodes that were taken away
    is_hopeless: bool = False  # so many that it was broken off: nearly nothing gets written
    busy_s: dict[str, float] = field(  # all cores or teachers together
        default_factory=lambda: {"read": 0.0, "predict": 0.0, "write": 0.0}
    )
    most_waiting: int = 0  # blocks that were read and not yet with a teacher
    closed_s: float = 0.0  # in which no shard was open

    @property
    def images_per_s(self) -> float:
        """Over the whole time."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def redone(self) -> int:
        """Images that were labelled in vain, or were about to be."""
        return self.labelled - self.images
