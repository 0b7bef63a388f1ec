r"""Proves that every image of a labelled pool stands once; no cluster, no accelerator.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/verify.py /shared/runs/pseudo --images URI

Reads: the folder that label.py left, and the pool that it labelled.
Writes: nothing. Status 1 where something is wrong, a line each.
Costs: one core reads ids, no pixels.
It may be submitted at any time, also while label.py is at work.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["verify", *sys.argv[1:]]))
