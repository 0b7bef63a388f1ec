r"""Pseudo labels as COCO, YOLO or PASCAL VOC, for other tools; no cluster, no accelerator.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/export.py --pseudo /shared/runs/policy --format coco --out /shared/runs/export

Reads: the folder that label.py or policy.py left.
Writes: instances.json, or a label file an image; summary.json.
Costs: one core reads the labels once, no pixels.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
