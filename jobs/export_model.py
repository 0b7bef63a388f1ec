r"""A model as one file that other programs run, ONNX or torch.export; no cluster, no accelerator.

Command:
    ray job submit --address URL --working-dir . -- \
        python jobs/export_model.py --model /shared/runs/mine --format onnx --out /shared/runs/onnx

Reads: the folder that train.py left.
Writes: model.onnx or model.pt2, export.json; summary.json.
Costs: one core, a minute or a few.
The folder of --out must be one that every node sees. Submitting the same again goes on with it.
"""

import sys

from ray_st.cli import main

if __name__ == "__main__":
    sys.exit(main(["export-model", *sys.argv[1:]]))
