#!/usr/bin/env bash
# A verb on nodes that Slurm gives: Ray starts with the job and ends with it.
#   sbatch --nodes=4 --gpus-per-node=4 clusters/slurm.sh label --images /data/pool --teacher ... --out /runs/pool
# Ended early (time limit, pre-emption, a lost node), it is queued again, and goes on in its --out.
#SBATCH --job-name=ray-st
#SBATCH --exclusive
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch}"
source .venv/bin/activate

# A token for this job alone; Slurm hands the environment on to every node.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"
export RAY_AUTH_TOKEN
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
# Starts Ray on every node, runs the verb on the first, and stops what it started. The dashboard
# listens on the first node's loopback alone.
exec srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" \
    ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" \
    --num-cpus "${SLURM_CPUS_PER_TASK:-1}" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
    --disable-usage-stats -- \
    python -m ray_st "$@" --address auto
