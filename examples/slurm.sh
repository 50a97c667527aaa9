#!/bin/bash
# A training on two machines with four GPUs each:
#     DATA=/shared/data.yaml OUTPUT=/shared/runs/cells sbatch examples/slurm.sh
# DATA, OUTPUT and this repository must have the same path on every machine. After the loss of a
# machine Slurm starts the job again (--requeue), and the training resumes after its last whole epoch.
#SBATCH --job-name=cells
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

: "${DATA:?name the data.yaml to train on}"
: "${OUTPUT:?name the folder of the results}"
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --max-restarts 3 \
    --rdzv-backend c10d \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-endpoint "$first:29400" \
    train.py --data "$DATA" --cfg yolov5s --batch-size 64 --sync-bn --output "$OUTPUT"
