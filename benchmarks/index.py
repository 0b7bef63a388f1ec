"""Indexing against the plain way: folders against one list in memory, tars against `tarfile`.

The plain way lists a folder by one recursive call and sorts the names; it holds all of them, and
writes nothing. Ours writes the manifest. Parts of files are read beside whole files of their size.
Empty and small files in the machine's temporary folder, warm: this is our own cost, not a disk's.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pairs import compare, parse_pairs

from ray_st.data.images import fetch
from ray_st.data.manifest.indexing import index_images
from ray_st.data.manifest.tars import list_tar
from ray_st.data.sources.folder import list_images

FOLDERS, IMAGES = 300, 1000
MEMBERS, BYTES = 5000, 3000


def make_world(root: Path) -> None:
    """Folders of empty files; a tar, a table and files of the same small images."""
    for folder in range(FOLDERS):
        (root / "in" / f"{folder:04d}").mkdir(parents=True)
        for image in range(IMAGES):
            (root / "in" / f"{folder:04d}" / f"{image:06d}.jpg").touch()
    (root / "files").mkdir()
    contents = [os.urandom(BYTES) for _ in range(MEMBERS)]
    with tarfile.open(root / "a.tar", "w:") as tar:
        for i, content in enumerate(contents):
            (root / "files" / f"{i:06d}.jpg").write_bytes(content)
            for name, each in ((f"{i:06d}.jpg", content), (f"{i:06d}.json", b"{}")):
                member = tarfile.TarInfo(name)
                member.size = len(each)
                tar.addfile(member, io.BytesIO(each))
    pq.write_table(pa.table({"bytes": contents}), root / "a.parquet", row_group_size=1000)


def rate(count: int, work: Callable[[], object]) -> float:
    """How many a second."""
    start = time.monotonic()
    work()
    return count / (time.monotonic() - start)


def main() -> None:
    """Print the ratios of listing, of a rerun, of tars, slices and cells."""
    pairs = parse_pairs(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_world(root)

        def index(name: str) -> None:
            sizes = {"shard_rows": 1_000_000, "file_rows": 10_000, "threads": 32}
            index_images(
                str(root / "in"),
                str(root / name),
                column=None,
                dry_run=False,
                seen=lambda _: None,
                **sizes,
            )

        def all_members() -> None:
            with tarfile.open(root / "a.tar") as tar:
                for _ in tar:
                    pass

        images, outs = FOLDERS * IMAGES, iter(range(10**6))
        tar, table = str(root / "a.tar"), str(root / "a.parquet")
        slices = list_tar(tar).column("uri").to_pylist()
        cells = [f"cell:{i // 1000}:{i % 1000}:bytes:{table}" for i in range(MEMBERS)]
        whole = list_images(str(root / "files")).column("uri").to_pylist()

        def plain() -> float:
            return rate(images, lambda: list_images(str(root / "in")))

        def read(uris: list[str]) -> Callable[[], float]:
            return lambda: rate(len(uris), lambda: [fetch(uri) for uri in uris])

        compare("first run", lambda: rate(images, lambda: index(f"{next(outs)}")), plain, pairs)
        compare("rerun, nothing new", lambda: rate(images, lambda: index("0")), plain, pairs)
        compare(
            "members of a tar",
            lambda: rate(2 * MEMBERS, lambda: list_tar(tar)),
            lambda: rate(2 * MEMBERS, all_members),
            pairs,
        )
        compare("slices of a tar against files", read(slices), read(whole), pairs)
        compare("cells of a table against files", read(cells), read(whole), pairs)


if __name__ == "__main__":
    main()
