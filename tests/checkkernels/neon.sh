#!/bin/sh
# Builds checkkernels for AArch64 with Debian's cross compiler and runs it under qemu: the NEON level against scalar.
# Usage: neon.sh BUILD_DIRECTORY. Exits with 77 where there is no compiler or no qemu.
set -eu
build=$1/neon
cd "$(dirname "$0")/../.."
for tool in aarch64-linux-gnu-gcc qemu-aarch64-static; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 77; }
done
mkdir -p "$build"
sources="kernels/levels.c kernels/scalar.c kernels/vector/neon.c"
for name in bench buffer check choose chunks compare data main; do
    sources="$sources tests/checkkernels/$name.c"
done
for source in $sources; do
    echo "$source"
done | xargs -P 2 -I '{}' sh -c 'aarch64-linux-gnu-gcc -O2 -std=gnu17 -D_GNU_SOURCE -ffp-contract=off -Wall -Wextra -Werror \
    -c "$2" -o "$1/$(basename "$2" .c).o"' sh "$build" '{}'
aarch64-linux-gnu-gcc -static -o "$build/checkkernels" "$build"/*.o -lm -lpthread
qemu-aarch64-static "$build/checkkernels" --level neon
