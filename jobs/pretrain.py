r"""A backbone to start from, learned from images alone or from classes.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/pretrain.py --config pretrain_simclr --images URI \
        --out /shared/runs/start

Reads: images, or class folders with --method supervised.
Writes: a model folder, metrics.jsonl, summary.json.
Costs: as a training of the same steps; SimCLR decodes every image twice.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
