"""Whatever is killed while a pool is labelled, each image stands once, with the same labels.

Five seeds by default, one of each kind; `make chaos` runs fifty (CHAOS_SEEDS).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bucket import Endpoint, credentials, s3_server
from chaos import KINDS, Driver, Fault, Machines, is_teacher, is_worker, kill, machines
from chaos_pool import CLASSES, FILE_IMAGES, IMAGES, MODEL, write_pool, write_teacher
from flaky import Stretch, Way, flaky, nothing

from ray_st.data import parquet, storage
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images, open_pool
from ray_st.labeling.pool import label, read_raw
from ray_st.labeling.store import Store
from ray_st.labeling.teacher import SavedTeacher
from ray_st.labeling.verify import findings
from ray_st.models.saved import read_model
from ray_st.tasks import make_task

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("nodes"), pytest.mark.timeout(600)]

SEEDS = int(os.environ.get("CHAOS_SEEDS", "5"))
_WRITES = 150  # of a run, about
_ATTEMPTS = 4  # of one command, while writes fail


@dataclass(frozen=True, kw_only=True)
class World:
    """A pool of which one image cannot be read, a teacher, and the labels of an undisturbed run."""

    folder: Path
    cluster: Machines
    bucket: Endpoint  # it fails when `way` says so
    way: Way

    @property
    def images(self) -> Images:
        return open_pool(f"{self.folder}/index")

    def driver(self, out: str, log: Path) -> Driver:
        return Driver(
            [
                "label", f"--images={self.folder}/index", f"--teacher={self.folder}/teacher",
                f"--out={out}", f"--address={self.cluster.address}", "--label.actors", "2", "2",
                "--label.cpus-per-actor=0.5", "--label.readers=1", "--label.batch-size=2",
                f"--label.block-images={FILE_IMAGES}", f"--label.file-images={FILE_IMAGES}",
            ],
            log,
        )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    write_pool(folder)
    write_teacher(folder / "teacher")
    saved = read_model(folder / "teacher", "teacher")
    teacher = SavedTeacher(saved=saved, task=make_task("detection", MODEL, len(CLASSES)))
    here = LabelConfig(actors=(0, 0))
    label(open_pool(f"{folder}/index"), teacher, f"{folder}/undisturbed", here, None)
    server = s3_server(tmp_path_factory.mktemp("s3"))
    with server as real, credentials(), flaky(real) as (bucket, way), machines() as cluster:
        yield World(folder=folder, cluster=cluster, bucket=bucket, way=way)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost(world: World, tmp_path: Path, seed: int) -> None:
    fault = Fault.of(seed)
    begun = time.monotonic()
    out = world.bucket.uri(f"pools/{seed}") if fault.kind == "writes" else f"{tmp_path}/out"
    if fault.kind == "writes":
        told = _with_failing_writes(world, fault, out, tmp_path / "log")
    else:
        told = _with_a_kill(world, fault, out, tmp_path / "log")
    _require_whole(world, out)
    print(f"seed {seed}: {fault.kind} at {fault.share:.2f}: {told}; "
          f"{time.monotonic() - begun:.0f} s")  # fmt: skip


def _with_a_kill(world: World, fault: Fault, out: str, log: Path) -> str:
    """Label, and kill at the fault's moment; what was killed."""
    driver = world.driver(out, log)
    store = Store(f"{out}/raw")

    def is_time() -> bool:
        return _standing(store) * FILE_IMAGES >= fault.share * IMAGES

    try:
        driver.waits_for(is_time)
        hit, standing = _STRIKES[fault.kind](world, fault, driver), _standing(store)
        if fault.kind == "driver":
            before = _files(store)
            driver = world.driver(out, log)
        assert driver.status() == 0, driver.said()
        if fault.kind == "driver":
            kept = before.items() & _files(store).items()
            assert len(kept) >= len(before) - 2  # those that were being written are made again
            hit += f", {len(kept)} of them kept"
            _require_verified(world, out, tmp=log.parent)
    finally:
        driver.kill()
        if fault.kind == "node":
            world.cluster.add_node()
    return f"{standing} files, killed {hit}"


def _kill_driver(world: World, fault: Fault, driver: Driver) -> str:
    driver.kill()
    return "the driver"


def _kill_teacher(world: World, fault: Fault, driver: Driver) -> str:
    return _kill_one(world, fault, driver, is_teacher)


def _kill_worker(world: World, fault: Fault, driver: Driver) -> str:
    return _kill_one(world, fault, driver, is_worker)


def _kill_one(world: World, fault: Fault, driver: Driver, wanted: Callable[[str], bool]) -> str:
    while some := driver.waits_for(lambda: world.cluster.processes(wanted)):
        pid, name = fault.chosen(some)
        if kill(pid):
            return name
    return "nobody, all was done"


def _kill_node(world: World, fault: Fault, driver: Driver) -> str:
    driver.waits_for(lambda: world.cluster.processes(is_teacher))
    world.cluster.kill_node(fault)
    return "a node"


_STRIKES = {
    "driver": _kill_driver, "actor": _kill_teacher, "worker": _kill_worker, "node": _kill_node,
}  # fmt: skip


def _with_failing_writes(world: World, fault: Fault, out: str, log: Path) -> str:
    """Label into a bucket that fails for a stretch of writes; the same command until it is done."""
    severe = fault.victim > 0.5  # else what a client's own retries see to
    world.way.fail(Stretch(first=int(fault.share * _WRITES), length=120 if severe else 30,
                           share=1.0 if severe else 0.5, seed=fault.seed))  # fmt: skip
    try:
        statuses = []
        while 0 not in statuses:
            driver = world.driver(out, log)
            statuses.append(driver.status())
            assert 0 in statuses or len(statuses) < _ATTEMPTS, driver.said()
        failed = Counter(each.partition(" ")[0] for each in world.way.failed)
        return f"{dict(failed)} of {world.way.writes} writes, statuses {statuses}"
    finally:
        world.way.fail(nothing)


@pytest.mark.skipif(len(KINDS) >= SEEDS, reason="one of `make chaos`")
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_note_that_is_half_renamed_loses_nothing(
    world: World, tmp_path: Path, is_killed: bool
) -> None:
    """A bucket renames by copying and removing; Ray would drop a file that it holds for written."""
    denied: list[str] = []

    def once(write: int, verb: str, path: str) -> str | None:
        if verb != "DELETE" or ".pending." not in path or denied:
            return None
        denied.append(path)
        return "denied"

    out, log = world.bucket.uri(f"pools/renamed-{is_killed}"), tmp_path / "log"
    world.way.fail(once)
    first = world.driver(out, log)
    try:
        if is_killed:
            first.waits_for(lambda: denied)
        else:
            assert first.status() == 2, first.said()
            assert "1 files could not be written; the rest stands" in first.said()
    finally:
        first.kill()
        world.way.fail(nothing)
    assert denied
    again = world.driver(out, log)
    assert again.status() == 0, again.said()
    _require_whole(world, out)


def _files(store: Store) -> dict[str, int]:
    """Data files that stand, and when they were written."""
    files = [Path(shard.file(name)) for shard in store.begun() for name in shard.standing()]
    return {str(file): file.stat().st_mtime_ns for file in files if file.exists()}


def _standing(store: Store) -> int:
    return len(_files(store))


def _require_whole(world: World, out: str) -> None:
    """Each image once, those that an undisturbed run labels labelled the same."""
    images = world.images
    store = Store(storage.join(out, "raw"))
    assert findings(store, {part.number: part.rows() for part in images.shards}) == []
    failures = parquet.read(storage.join(out, "failures.parquet")).to_pylist()
    wanted = parquet.read(f"{world.folder}/undisturbed/failures.parquet").to_pylist()
    assert failures == wanted
    assert [row["stage"] for row in failures] == ["decode"]
    found, undisturbed = read_raw(out), read_raw(f"{world.folder}/undisturbed")
    assert found["image_id"].equals(undisturbed["image_id"])
    assert found["uri"].equals(undisturbed["uri"])
    assert len(undisturbed["scores"].combine_chunks().flatten()) > 0
    for name in ("boxes_xyxy", "scores"):
        pair = (each[name].combine_chunks().flatten().to_numpy() for each in (found, undisturbed))
        np.testing.assert_allclose(*pair, rtol=1e-3, atol=1e-3)


def _require_verified(world: World, out: str, tmp: Path) -> None:
    """The command says the same."""
    verify = Driver(["verify", out, f"--images={world.folder}/index"], tmp / "verified")
    assert verify.status() == 0, verify.said()
    counts = f"{IMAGES} images, each once: {IMAGES - 1} labelled, 1 failures, in 2 shards"
    assert counts in verify.said()


@pytest.mark.pure
def test_five_seeds_in_a_row_meet_every_kind() -> None:
    for first in (0, 7, 45):
        assert {Fault.of(seed).kind for seed in range(first, first + 5)} == set(KINDS)
    assert Fault.of(3) == Fault.of(3)
