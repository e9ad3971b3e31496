#!/bin/sh
# fio.sh BENCH_RAW FILE [PAIRS]: how fast kvot bench reads a file with O_DIRECT, beside fio: io_uring, 1 MiB, depth 16.
# In turn, with the file dropped from the page cache, PAIRS times (default 5). Fails if kvot is more than 10 % slower, as
# the median of the pairs: a slow yardstick flatters. BENCH_RAW is build/tests/bench_raw; FILE should take a second to
# read, and nothing else should be using the disk. Exit code 77 where there is no fio, io_uring or O_DIRECT.
#
# fio runs with small pages, as it does by itself, and with large ones, as kvot does: a mebibyte of small pages has up to
# 256 pieces, and some disks (virtio) take no more than 254 at once, so a read becomes two. The faster one counts.
set -eu
[ $# -ge 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
command -v fio >/dev/null || { echo "skipped: no fio"; exit 77; }
raw=$1 file=$2 pairs=${3:-5}

read_with_fio() {
    sleep 1 # before each: disks of virtual machines allow bursts
    line=$(GLIBC_TUNABLES=glibc.malloc.hugetlb=$1 fio --name=read --filename="$file" --readonly --rw=read \
        --ioengine=io_uring --bs=1M --iodepth=16 --direct=1 --invalidate=1 --minimal)
    echo "$line" | awk -F';' '{ printf "%.0f\n", $7 * 1024 }'
}

median() {
    printf '%s\n' "$@" | sort -n | awk '{ r[NR] = $1 } END { printf "%.3f\n", (r[int((NR + 1) / 2)] + r[int(NR / 2) + 1]) / 2 }'
}

ratios=
for pair in $(seq "$pairs"); do
    sleep 1
    kvot=$("$raw" "$file")
    small=$(read_with_fio 0)
    large=$(read_with_fio 1)
    ratio=$(awk "BEGIN { printf \"%.3f\", $kvot / ($small > $large ? $small : $large) }")
    ratios="$ratios $ratio"
    echo "pair $pair, MB/s: kvot $((kvot / 1000000)), fio $((small / 1000000)), with large pages $((large / 1000000)); ratio $ratio"
done
median=$(median $ratios)
echo "median ratio $median"
awk "BEGIN { exit !($median >= 0.9) }" || { echo "more than 10 % slower"; exit 1; }
