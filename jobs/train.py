r"""A teacher from human labels, or a student with --pseudo.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/train.py --config detection --data.train coco:URI \
        --data.val coco:URI --out /shared/runs/teacher

Reads: labelled images, perhaps a folder that `label` left.
Writes: a model folder, metrics.jsonl, predictions.parquet, summary.json.
Costs: train.steps steps of train.num_workers workers, whose cores and GPUs are held to the end.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
