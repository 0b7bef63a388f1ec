r"""The whole loop on your own images.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/run.py --config detection --data.train coco:URI \
        --data.val coco:URI --data.unlabeled URI --out /shared/runs/mine

Reads: labelled images and a pool.
Writes: a stage a sub-folder, summary.json, report.html.
Costs: what train.py costs, for a teacher and one or two students, and label.py and sweep.py once.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
