#!/usr/bin/env bash
# A verb on nodes that Slurm gives: Ray starts with the job and ends with it.
#   sbatch --nodes=4 --gpus-per-node=4 clusters/slurm.sh label --images /data/pool --teacher ... --out /runs/pool
# At its time limit, pre-empted, or when a node is lost, it is queued again, and goes on in its --out.
#SBATCH --job-name=ray-st
#SBATCH --exclusive
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
# Slurm itself queues again what was pre-empted or lost a node, not what ran out of time: it warns
# this script alone, two minutes before.
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?is set by sbatch}"
source .venv/bin/activate

# A token for this job alone; Slurm hands the environment on to every node.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"
export RAY_AUTH_TOKEN
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

queue_again() {
    warned=yes
    if scontrol requeue "$SLURM_JOB_ID"; then
        echo "slurm.sh: out of time; queued again" >&2
    else
        echo "slurm.sh: out of time, and not queued again; send the same words once more" >&2
    fi
}
trap queue_again USR1

nodes="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
head="${nodes%%$'\n'*}"
# Starts Ray on every node, runs the verb on the first, and stops what it started. The dashboard
# listens on the first node's loopback alone. A step gets its cores only if they are named again.
# Verbs that use Ray join it by RAY_ADDRESS; the others have no flag for it.
srun --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
    --disable-usage-stats -- \
    env RAY_ADDRESS=auto python -m ray_st "$@" &
step=$!

# A warning ends a wait, not the step.
warned=yes
while [ -n "$warned" ]; do
    warned="" status=0
    wait "$step" || status=$?
done
exit "$status"
