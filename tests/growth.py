"""A pool that is labelled on nodes that come when there is work, of which one is taken away, and
that go when there is none: what happens, second by second.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from chaos import Driver
from fake_cloud import Cloud, take_away
from head import Head, ray_head
from paced_teacher import PACE
from PIL import Image

from ray_st.data import parquet
from ray_st.labeling.store import Store

HERE = Path(__file__).parent
TEACHERS = 2
_HEAD_CPUS = 4  # a reader, a writer, what lists and what filters
_FILE_IMAGES = 4
_LOOK_S = 1.0
_PATIENCE_S = 600.0  # with a machine that has other things to do


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What there was; seconds since the command was given."""

    at_s: float
    nodes: int  # teacher nodes that are alive
    teachers: int  # their actors, behind their start
    images: int  # whose labels stand in files


@dataclass(kw_only=True)
class Growth:
    """What happened."""

    pool: Path
    out: Path
    moments: list[Moment] = field(default_factory=list)
    taken_s: float = 0.0  # when the node was taken away
    done_s: float = 0.0  # when the command had ended
    status: int | None = None  # with which it did
    said: str = ""
    nodes: set[str] = field(default_factory=set)  # ids of all that ever were


def write_images(folder: Path, count: int) -> None:
    """Small ones; the teacher does not look."""
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (32, 32), (i % 256, i // 256, 0)).save(folder / f"{i:05}.png")


def grown(folder: Path, *, images: int, image_s: float, hurries: bool) -> Growth:
    """Label so many images, each of which takes a teacher so many seconds, and tell of it.

    A node is taken away once all of them label. `hurries`: when there is another in its place,
    images take no more time; by then all has been seen that was to be.
    """
    pace = folder / "pace"
    pace.write_text(str(image_s))
    os.environ[PACE] = str(pace)  # the head's nodes have its environment
    cloud = Cloud(head_cpus=_HEAD_CPUS, most_teachers=TEACHERS)
    growth = Growth(pool=folder / "images", out=folder / "out")
    write_images(growth.pool, images)
    # Ray's sockets stand in its folder, and their paths may have 107 characters at most.
    with (
        tempfile.TemporaryDirectory(prefix="ray_head_") as place,
        ray_head(Path(place), num_cpus=_HEAD_CPUS, labels="pool=head", cloud=cloud) as head,
    ):
        driver = Driver(_words(folder, head), folder / "log", head.environment)
        watch = _Watch(head=head, driver=driver, growth=growth)
        try:
            _play(watch, pace if hurries else None)
        finally:
            driver.kill()
            growth.said = driver.said()
            watch.keep_logs(Path(place), folder)
    return growth


def _words(folder: Path, head: Head) -> list[str]:
    return [
        "label", f"--images={folder}/images", "--teacher=paced_teacher:Paced",
        f"--out={folder}/out", f"--address={head.gcs_address}", "--image-size-px=32",
        "--label.nodes", "pool=teacher", "--label.gpus-per-actor=1",
        "--label.actors", "1", f"{TEACHERS}", "--label.readers=1", "--label.batch-size=2",
        f"--label.block-images={_FILE_IMAGES}", f"--label.file-images={_FILE_IMAGES}",
    ]  # fmt: skip


def _play(watch: _Watch, pace: Path | None) -> None:
    growth = watch.growth
    watch.until(lambda now: now.nodes == now.teachers == TEACHERS)
    stood = growth.moments[-1].images
    watch.until(lambda now: now.images >= stood + 4 * _FILE_IMAGES)  # all of them have labelled
    take_away(watch.head, max(watch.alive))
    growth.taken_s, before = watch.seconds, {*watch.alive}
    watch.until(lambda now: bool(watch.alive - before) and now.teachers == TEACHERS)
    if pace is not None:
        pace.write_text("0")
    watch.until(lambda _: not watch.driver.is_running)
    growth.status, growth.done_s = watch.driver.status(), watch.seconds
    watch.until(lambda now: now.nodes == 0)


@dataclass(kw_only=True)
class _Watch:
    """Looks once a second."""

    head: Head
    driver: Driver
    growth: Growth
    alive: set[str] = field(default_factory=set)  # teacher nodes
    begun: float = field(default_factory=time.monotonic)
    _rows: dict[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def until(self, holds: Callable[[Moment], bool]) -> None:
        """Look until it holds, or fail: also where the command ends before it does."""
        before, was_running = time.monotonic() + _PATIENCE_S, self.driver.is_running
        while True:
            is_running = self.driver.is_running
            if holds(self.look()):
                return
            assert is_running == was_running, self._tale()
            assert time.monotonic() < before, self._tale()
            time.sleep(_LOOK_S)

    def look(self) -> Moment:
        at_s = self.seconds
        nodes = [each for each in self.head.listed("nodes") if each["state"] == "ALIVE"]
        actors = self.head.listed("actors")
        self.alive = {each["node_id"] for each in nodes if each["labels"].get("pool") == "teacher"}
        teachers = [
            each for each in actors
            if "TeacherActor" in each["class_name"] and each["state"] == "ALIVE"
        ]  # fmt: skip
        now = Moment(
            at_s=at_s, nodes=len(self.alive), teachers=len(teachers), images=self._standing()
        )
        self.growth.nodes |= self.alive
        self.growth.moments.append(now)
        return now

    def _standing(self) -> int:
        for shard in Store(f"{self.growth.out}/raw").begun():
            for name in shard.standing():
                file = shard.file(name)
                if file not in self._rows and (rows := _rows_of(file)) is not None:
                    self._rows[file] = rows
        return sum(self._rows.values())

    def _tale(self) -> str:
        last = "\n".join(str(each) for each in self.growth.moments[-20:])
        return f"{last}\n{self.driver.said()}"

    def keep_logs(self, place: Path, folder: Path) -> None:
        """What the autoscaler decided, for whoever looks at a failure."""
        for log in place.glob("session_2*/logs/monitor*"):
            (folder / log.name).write_bytes(log.read_bytes())


def _rows_of(file: str) -> int | None:
    """None: it is being written."""
    try:
        return parquet.read(file, ["image_id"]).num_rows
    except (OSError, pa.ArrowInvalid):
        return None
