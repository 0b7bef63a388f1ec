"""Does labelling stay as it is from one million images to hundreds of millions?

Ten million manifest rows go through the whole pipeline with a teacher that costs next to nothing,
so that what is measured is ours: rows a second, and the memory of driver and workers along the way.
Then a run of 300 shards is resumed of which 299 stand, and most of the last: what that costs until
the first new file of labels, beside a fresh run of as many images as are left. The images are 64
tiny JPEGs inside one file, read as slices, again and again.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from ray_st.data import parquet, storage
from ray_st.data.labels import Detections, Labels, Origin
from ray_st.data.manifest.manifest import Manifest, Shard
from ray_st.data.manifest.writer import write_shards
from ray_st.data.parts import slice_uri
from ray_st.data.rows import pack
from ray_st.labeling.config import LabelConfig
from ray_st.labeling.images import Images
from ray_st.labeling.looks import Looks
from ray_st.labeling.rows import OK, store_row
from ray_st.labeling.store import Store
from ray_st.labeling.teachers.origin import Foreign

SIDE_PX, DISTINCT, SHARD_ROWS, FILE_ROWS = 16, 64, 1_000_000, 10_000
ROWS_LEFT = 65_536  # to be labelled by the run that is resumed, and by the fresh one
LOOK_S = 2.0
CONFIG = LabelConfig(actors=(1, 1), batch_size=512, block_images=2048, file_images=8192, readers=2)


@dataclass(frozen=True)
class NearlyFree:
    """A teacher that sees one box in every image."""

    digest: str = "nearly-free"
    classes: tuple[str, ...] = ("box",)
    image_size_px: int = SIDE_PX
    task: Foreign = field(default_factory=lambda: Foreign.of("detection"))
    kind: type[Labels] = Detections

    def looks(self, config: LabelConfig) -> Looks:
        """Once."""
        del config
        return Looks(sides_px=(SIDE_PX,))

    def load(self, device: object, looks: object = None) -> NearlyFree:
        """Nothing to load."""
        del device, looks
        return self

    def predict(self, pixels: np.ndarray, sizes_hw: np.ndarray) -> list[Labels]:
        """One box an image."""
        del sizes_hw
        return [Detections.of([[1, 2, 3, 4]], [0], scores=[0.5])] * len(pixels)


def write_images(folder: Path) -> list[str]:
    """One file of tiny JPEGs; their URIs."""
    rng, uris, file = np.random.default_rng(0), [], folder / "images.bin"
    with file.open("wb") as stream:
        for _ in range(DISTINCT):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (SIDE_PX, SIDE_PX, 3), np.uint8)).save(
                buffer, "JPEG"
            )
            uris.append(slice_uri(stream.tell(), len(buffer.getvalue()), str(file)))
            stream.write(buffer.getvalue())
    return uris


def write_manifest(folder: Path, uris: list[str], rows: int) -> Manifest:
    """A manifest of so many rows, which name these images in turn."""
    wanted = Manifest(
        source="synthetic", shard_rows=SHARD_ROWS, file_rows=FILE_ROWS, uri=str(folder / "index")
    )

    def tables():  # type: ignore[no-untyped-def]
        for start in range(0, rows, FILE_ROWS):
            count = min(FILE_ROWS, rows - start)
            names = [uris[i % DISTINCT] for i in range(start, start + count)]
            yield pa.table(
                {
                    "uri": names,
                    "size_bytes": pa.nulls(count, pa.int64()),
                    "etag": pa.nulls(count, pa.string()),
                }
            )

    manifest = write_shards(wanted, tables())
    manifest.write()
    return manifest


@dataclass
class Memory:
    """Resident memory of the driver, and of the largest Ray worker, along the way."""

    samples: list[tuple[float, float, float]] = field(default_factory=list)  # share, MiB, MiB

    def look(self, share: float) -> None:
        """Take one sample; a process that ends meanwhile is not counted."""
        workers = [0.0]
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    name = (entry / "cmdline").read_bytes()
                    if name.startswith(b"ray::"):
                        workers.append(resident_mib(entry))
                except OSError:
                    continue
        self.samples.append((share, resident_mib(Path("/proc/self")), max(workers)))

    def peak(self, low: float, high: float) -> tuple[float, float]:
        """The largest of each while between these shares of the images were done."""
        some = [each for each in self.samples if low <= each[0] <= high]
        return max(each[1] for each in some), max(each[2] for each in some)


def resident_mib(process: Path) -> float:
    """Memory that a process holds and shares with no other: not the object store's."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def flat(folder: Path, rows: int) -> dict[str, float]:
    """Label them all; rows a second, and memory at a tenth and at the end."""
    from ray_st.cluster.session import connected
    from ray_st.labeling.pool import label

    images = Images.of_manifest(write_manifest(folder, write_images(folder), rows))
    store, memory, ended = Store(str(folder / "out" / "raw")), Memory(), threading.Event()
    begun = time.monotonic()

    def watch() -> None:
        while not ended.wait(LOOK_S):
            done = sum((shard.facts or {"rows": 0})["rows"] for shard in store.shards())
            memory.look(done / rows)

    with connected("local"):
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        label(images, NearlyFree(), str(folder / "out"), CONFIG, None)
        seconds = time.monotonic() - begun
        ended.set()
        watcher.join()
    tenth = max(0.1, SHARD_ROWS / rows)
    early, late = memory.peak(0, tenth), memory.peak(0, 1)
    return {
        "rows": rows,
        "rows_per_s": rows / seconds,
        "driver_mib": early[0],
        "driver_growth": late[0] / early[0] - 1,
        "worker_mib": early[1],
        "worker_growth": late[1] / early[1] - 1,
    }


def prepare_resume(folder: Path, shards: int, rows_left: int) -> None:
    """A run of which all shards stand but the last, of which `rows_left` are to be labelled."""
    last = write_manifest(folder, write_images(folder), SHARD_ROWS).shards[0]
    index = Path(folder / "index")
    (index / "shard-00000").rename(index / f"shard-{shards - 1:05d}")
    move_ids(index / f"shard-{shards - 1:05d}", shards - 1)
    whole = [Shard(shard=n, rows=SHARD_ROWS, files=last.files) for n in range(shards)]
    Manifest(
        source="synthetic", shard_rows=SHARD_ROWS, file_rows=FILE_ROWS, shards=tuple(whole),
        uri=str(index),
    ).write()  # fmt: skip
    teacher, looks = NearlyFree(), Looks(sides_px=(SIDE_PX,))
    store = Store(str(folder / "out" / "raw"))
    store.claim(
        {
            "teacher_sha256": teacher.digest, "task": "detection", "classes": ["box"],
            "image_size_px": SIDE_PX, "views": looks.card, "scores": "float16",
        }
    )  # fmt: skip
    names = SHARD_ROWS // CONFIG.file_images
    files = [
        {"name": f"{i:06d}.parquet", "rows": 8192, "failed": 0, "bytes": 1} for i in range(names)
    ]
    card = json.dumps({"rows": SHARD_ROWS, "failed": 0, "files": files}).encode()
    for number in range(shards - 1):
        shard = store.shard(number)
        storage.make_folder(shard.folder)
        storage.put(storage.join(shard.folder, "shard.json"), card)
    write_half(store, shards - 1, SHARD_ROWS - rows_left)


def move_ids(folder: Path, shard: int) -> None:
    """Give the rows of a shard the ids of another."""
    for file in folder.glob("*.parquet"):
        table = parquet.read(str(file))
        ids = pa.array(np.asarray(table["image_id"]) + (shard << 32))
        parquet.write(str(file), table.set_column(0, table.schema.field(0), ids))


def write_half(store: Store, number: int, rows: int) -> None:
    """What a killed driver leaves: files of labels, and Ray's checkpoint of their ids."""
    shard = store.shard(number)
    checkpoint = storage.join(shard.work, "checkpoint")
    for folder in (shard.folder, checkpoint):
        storage.make_folder(folder)
    schema = store_row(Detections, "nearly-free", Looks(sides_px=(SIDE_PX,)).card)
    one = Detections.of([[1, 2, 3, 4]], [0], scores=[0.5])
    for start in range(0, rows, CONFIG.file_images):
        ids = [
            *range((number << 32) + start, (number << 32) + min(rows, start + CONFIG.file_images))
        ]
        table = pack(
            image_ids=ids, uris=["x"] * len(ids), sizes_hw=[(16, 16)] * len(ids),
            labels=[one] * len(ids), origin=Origin.PSEUDO,
        )  # fmt: skip
        for name, text in (("status", OK), ("stage", None), ("reason", None)):
            table = table.append_column(name, pa.array([text] * len(ids), pa.string()))
        parquet.write(shard.file(f"{start:09d}.parquet"), table.cast(schema))
        parquet.write(storage.join(checkpoint, f"{start:09d}.parquet"), table.select(["image_id"]))


def go_on(folder: Path) -> dict[str, float]:
    """Label what is left: seconds until the pool is open, until the first new file; memory."""
    from ray_st.cluster.session import connected
    from ray_st.labeling.images import open_pool
    from ray_st.labeling.pool import label

    begun = time.monotonic()
    store = Store(str(folder / "out" / "raw"))
    last = (store.begun() or [store.shard(0)])[-1]
    before, first = set(last.standing()), [0.0]
    images = open_pool(str(folder / "index"))
    opened = time.monotonic() - begun
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            peak[0] = max(peak[0], resident_mib(Path("/proc/self")))
            if not first[0] and set(last.standing()) - before:
                first[0] = time.monotonic() - begun

    with connected("local"):
        connected_s = time.monotonic() - begun
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        label(images, NearlyFree(), str(folder / "out"), CONFIG, None)
        ended.set()
        watcher.join()
    return {
        "opened_s": opened,
        "ray_up_s": connected_s,
        "first_new_file_s": first[0],
        "driver_mib": peak[0],
        "images": images.num_rows,
    }


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the first part; 0: none")
    parser.add_argument("--shards", type=int, default=300, help="of the second, a million each")
    parser.add_argument("--go-on", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.go_on is not None:
        print(json.dumps(go_on(given.go_on)), flush=True)
        return
    if given.rows:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(flat(Path(folder), given.rows)), flush=True)
    for name in ("fresh", "resumed"):
        with tempfile.TemporaryDirectory() as folder:
            if name == "fresh":
                write_manifest(Path(folder), write_images(Path(folder)), ROWS_LEFT)
            else:
                prepare_resume(Path(folder), given.shards, rows_left=ROWS_LEFT)
            print(name, end=" ", flush=True)
            # In a process of its own: what was prepared here is not its memory.
            subprocess.run([sys.executable, __file__, f"--go-on={folder}"], check=True)


if __name__ == "__main__":
    main()
