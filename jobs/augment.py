r"""What training sees of a few images, policy by policy; no cluster, no accelerator.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/augment.py --config detection --data.train coco:URI --out /shared/views.png

Reads: a few labelled images.
Writes: one PNG.
Costs: one core, seconds.
The file of --out is one that you see too; one that stands there is refused.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["augment", *sys.argv[1:]]))
