r"""The whole loop on scenes of handwritten digits.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/demo.py --out /shared/runs/demo

Reads: nothing.
Writes: the scenes, a stage a sub-folder, summary.json, report.html.
Costs: ten minutes on two cores; it holds 8 of the cores that Ray counts at most.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))
