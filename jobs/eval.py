r"""A model's figures on labelled images.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/eval.py --model /shared/runs/student \
        --data coco:URI --out /shared/runs/eval

Reads: a model folder and labelled images.
Writes: raw/, predictions.parquet, failures.parquet, summary.json.
Costs: a forward pass an image.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
