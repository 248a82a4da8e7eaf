#!/bin/bash
# Score a cohort as a Slurm array, one task a part:   sbatch --array=1-16 score_array.sh COHORT RESULTS
# Then join the parts:                                kneerisk merge RESULTS/part-*.parquet --against COHORT --out risks.parquet
#
# A task that was killed or requeued goes on where it stopped (--resume). To run task 7 of 16 again by itself:
#   PARTS=16 sbatch --array=7 score_array.sh COHORT RESULTS
#SBATCH --job-name=kneerisk
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=08:00:00
#SBATCH --requeue
set -euo pipefail

cohort=$1 results=$2
mkdir -p "$results"
kneerisk score "$cohort" \
  --shard "slurm${PARTS:+/$PARTS}" \
  --workers "${SLURM_CPUS_PER_TASK:-4}" \
  --out "$results/part-$SLURM_ARRAY_TASK_ID.parquet" \
  --resume --no-progress || status=$?
# 3 and 4: the table is written, and some (or all) of its rows say why they have no score.
case ${status:-0} in 0 | 3 | 4) exit 0 ;; *) exit "$status" ;; esac
