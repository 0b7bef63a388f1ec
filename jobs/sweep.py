r"""The student for several alphas, side by side.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/sweep.py --config detection --data.train coco:URI \
        --data.val coco:URI --pseudo /shared/runs/pseudo --sweep.alphas 0.5 1 2 \
        --out /shared/runs/sweep

Reads: what `train --pseudo` takes.
Writes: a folder a trial, summary.json.
Costs: a training of sweep.steps steps for each alpha, and one more for the plain sum.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
