#!/bin/bash
# kvot batch as a Slurm job array, a shard for each task. Arguments are those of kvot batch; paths must be the same on
# every node:
#
#   sbatch --array=1-32 slurm.sh compress -o /scratch/small /scratch/caches
#
# Say how many shards with --array=1-N, and how much each gets with --cpus-per-task and --mem (defaults below).
# KVOT=/path/to/kvot if kvot is not in PATH on the nodes.
#
# Submit the same again to go on after anything that went wrong: what is done is not done again. For a single task,
# "scontrol requeue JOB_TASK" does. A task that is out of time stops cleanly and queues itself again.
#SBATCH --job-name=kvot
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --output=kvot-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

if [ $# -lt 2 ] || [ "${SLURM_ARRAY_TASK_MIN:-0}" != 1 ] || [ "$SLURM_ARRAY_TASK_MAX" != "$SLURM_ARRAY_TASK_COUNT" ]; then
    # With a part of the array, its tasks would take the wrong shards.
    echo "usage: sbatch --array=1-N slurm.sh OPERATION [OPTIONS] PATH...; submit the whole array, also to go on" >&2
    exit 2
fi
operation=$1
shift

# A quarter of what Slurm grants (in MiB) is left for the program itself and the page cache. Without a limit, kvot's own.
granted=${SLURM_MEM_PER_NODE:-$((${SLURM_MEM_PER_CPU:-0} * ${SLURM_CPUS_PER_TASK:-1}))}
[ "$granted" = 0 ] || set -- --memory "$((granted * 3 / 4))M" "$@"

"${KVOT:-kvot}" batch "$operation" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --threads "${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}" "$@" &
kvot=$!
trap 'kill -TERM $kvot' TERM                  # cancelled, or making way for another job
trap 'out_of_time=1; kill -TERM $kvot' USR1   # two minutes before the end (--signal above)
wait $kvot
status=$?
while kill -0 $kvot 2>/dev/null; do # a signal ends wait before kvot has ended
    wait $kvot
    status=$?
done
# Not SLURM_JOB_ID: the last task's is the number of the whole array.
[ -z "$out_of_time" ] || scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
exit $status
