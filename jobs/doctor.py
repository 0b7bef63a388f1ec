r"""What would make a run fail or disappoint, on the cluster that it would run on.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/doctor.py --config detection --data.train coco:URI \
        --data.val coco:URI --data.unlabeled URI --out /shared/runs/doctor

Reads: what `run` and `train` read, a sample of it.
Writes: doctor.json, first_batches.png. Status 1 where something would fail.
Costs: a sample of the images, and one step of training.
The step is tried where the job runs, on the head unless --entrypoint-num-gpus says otherwise, or
--gpus of ray-st submit.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["doctor", *sys.argv[1:]]))
