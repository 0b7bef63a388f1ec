r"""Lists a pool of any size once, so that work on it starts at once; no cluster, no accelerator.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/index.py --images s3://bucket/photos --out s3://bucket/photos-index

Reads: the names of the images; of tars their headers, of Parquet its columns.
Writes: manifest.json, shard-*/.
Costs: one core and the listing: hours for hundreds of millions of objects in a bucket.
The folder of --out must be one that every node sees. Submitting the same again adds what is new.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["index", *sys.argv[1:]]))
