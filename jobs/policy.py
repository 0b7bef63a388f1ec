r"""Pseudo labels of a labelled pool under another policy; no cluster, no accelerator.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/policy.py --pseudo /shared/runs/pseudo \
        --policy.balance-share 0.2 --out /shared/runs/policy

Reads: the folder that label.py left.
Writes: labels.parquet, summary.json.
Costs: one core reads the labels once, no pixels.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["policy", *sys.argv[1:]]))
