"""Whether rows are of the images that a pool lists: under the same id the same file.

In: rows that stand, IMAGE_ROWs. Out: ids of those that are not, or `UserError` before a labelling
goes on. A folder's images are numbered by their places in it, so one file more moves all behind it.
Next: `verify.py`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_st.config import UserError
from ray_st.data import storage
from ray_st.data.rows import IMAGE_ROW
from ray_st.labeling.images import ImageShard
from ray_st.labeling.store import Shard


def of_other_files(rows: pa.Table, listed: pa.Table) -> np.ndarray:
    """Ids, in order, under which `rows` name another file than `listed` does; both IMAGE_ROWs.

    Ids that stand in one of both alone are not among them; options behind a URI do not count.
    """
    listed = listed.sort_by("image_id")
    ids, wanted = np.asarray(rows["image_id"]), np.asarray(listed["image_id"])
    places = np.searchsorted(wanted, ids)
    places[places == len(wanted)] = 0
    known = np.flatnonzero(wanted[places] == ids) if len(wanted) else np.empty(0, np.int64)
    was, now = rows["uri"].take(known), listed["uri"].take(places[known])
    differing = np.flatnonzero(np.asarray(pc.not_equal(was, now)))
    moved = [at for at in differing if _plain(was[at].as_py()) != _plain(now[at].as_py())]
    return np.unique(ids[known[moved]])


def _plain(uri: str) -> str:
    return storage.split_options(uri)[0]


def require_same_images(part: ImageShard, shard: Shard) -> None:
    """Refuse to go on with a shard whose images are listed otherwise than when it was begun.

    A manifest's shards never change, so nothing is read of theirs.
    """
    if part.files:
        return
    rows, listed = shard.named(), pa.concat_tables([IMAGE_ROW.empty_table(), *part.rows()])
    moved = of_other_files(rows, listed)
    gone = np.setdiff1d(rows["image_id"], listed["image_id"])
    come = 0 if shard.facts is None else max(0, listed.num_rows - rows.num_rows)
    if len(moved):
        image = pc.equal(rows["image_id"], moved[0]), pc.equal(listed["image_id"], moved[0])
        was, now = (t.filter(x)["uri"][0] for t, x in zip((rows, listed), image, strict=True))
        said = f"image {moved[0]} was {was} and is {now}"
    elif len(gone) or come:
        said = f"{len(gone)} fewer" if len(gone) else f"{come} more"
    else:
        return
    raise UserError(
        f"images: must be listed as when {shard.folder} was begun, got others ({said}); a folder's "
        "images are numbered by their places in it: put it back as it was, pass another --out, or "
        "number the pool once with `ray-st index`"
    )
