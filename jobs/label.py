r"""A teacher labels a pool.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/label.py --images URI \
        --teacher /shared/runs/teacher --out /shared/runs/pseudo

Reads: images and a teacher: a model folder, or one from elsewhere (docs/teachers.md).
Writes: raw/ (Parquet), labels.parquet, failures.parquet, summary.json.
Costs: a forward pass an image and view. Twice the actors take half the time as long as readers
    keep up; the summary says which of the two was the limit.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["label", *sys.argv[1:]]))
