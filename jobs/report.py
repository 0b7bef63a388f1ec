r"""report.html for a folder that another verb left.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/report.py /shared/runs/mine

Reads: a run folder.
Writes: report.html in it.
Costs: one core, seconds.
The folder must be one that the head sees.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
