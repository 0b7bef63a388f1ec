r"""How long labelling and training will take, on which nodes, and what that costs.

Command:
    ray job submit --address URL --working-dir . --entrypoint-num-gpus 1 -- \
        python jobs/plan.py --config detection --images 300000000 \
        --data.unlabeled URI --cluster clusters/aws.yaml --out /shared/runs/plan

Reads: up to 256 images of the pool, or of the labelled ones; a cluster launcher's file and a list
    of prices, both from the working folder.
Writes: plan.json.
Costs: a minute of the node that the job runs on. It starts no other Ray process.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["plan", *sys.argv[1:]]))
