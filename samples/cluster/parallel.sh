#!/bin/sh
# kvot batch on several machines, by GNU parallel and ssh. The work is cut into shards; a machine that is done with one
# gets the next, so take a few times more shards than machines. Arguments from the third on are those of kvot batch;
# paths must be the same on every machine:
#
#   parallel.sh 32 one,two,: compress -o /shared/small /shared/caches
#
# ":" is this machine. KVOT=/path/to/kvot if kvot is not in PATH where ssh logs in. More options for parallel, such as
# --bar or --sshdelay, may be in PARALLEL.
#
# Run the same again to go on after anything that went wrong: what is done is not done again.
set -eu
if [ $# -lt 4 ]; then
    echo "usage: parallel.sh SHARDS HOST,HOST,... OPERATION [OPTIONS] PATH..." >&2
    exit 2
fi
shards=$1 hosts=$2 operation=$3
shift 3

# One shard at a time on a machine: kvot keeps all of its cores busy. A shard that fails is tried once more, on another
# machine if there is one: one that has gone away fails whatever it is given. parallel's own --resume is not used: kvot's
# journal knows of each file, and of sources that have changed. The log says which shard ran where, and for how long.
seq "$shards" | parallel --quote --sshlogin "$hosts" --jobs 1 --retries 2 --workdir "$PWD" --joblog kvot-parallel.log \
    --line-buffer --tagstring "{}/$shards" "${KVOT:-kvot}" batch "$operation" --shard "{}/$shards" "$@"
