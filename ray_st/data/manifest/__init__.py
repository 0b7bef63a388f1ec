"""A pool's images as a table that stands: made once, opened in seconds, however large the pool.

In: any pool (a folder, a glob, tars, Parquet, a list). Out: a folder of Parquet, MANIFEST_ROWs.
Start at `manifest.py`, what stands; the way from a pool to it ends at `indexing.py`.
"""

from __future__ import annotations

from ray_st.data.manifest.manifest import Manifest, Shard

__all__ = ["Manifest", "Shard"]
