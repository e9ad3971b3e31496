#!/bin/sh
# Fuzzes everything that parses: run.sh SECONDS DATA_DIR
#
# DATA_DIR holds cache files of llama.cpp to begin with. Wants clang and a built build/kvot (KVOT names another one).
# What is found, and inputs to go on from next time, stay in build/fuzz. Fails if anything is found.
set -eu

seconds=$1
data=$(cd "$2" && pwd)
cd "$(dirname "$0")/../.."
kvot=${KVOT:-build/kvot}
out=${FUZZ_DIR:-build/fuzz}
mkdir -p "$out/objects" "$out/seeds/engine" "$out/seeds/kvot" "$out/seeds/gguf"

flags="-g -O1 -std=c17 -ffp-contract=off -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -fno-omit-frame-pointer
  -fno-sanitize-recover=all $(pkg-config --cflags libzstd libxxhash liburing)"
rm -f "$out"/objects/*.o
export flags out
find format kernels lib -name '*.c' | xargs -P "$(nproc)" -n 1 sh -euc '
  # Vectors for their processors, as CMakeLists.txt has it. They parse nothing, and take minutes with all of this.
  sanitize=address
  case "$(uname -m)-$1" in
    x86_64-*/avx2.c) level="-mavx2 -mf16c" ;;
    x86_64-*/avx512.c) level="-mavx512f -mavx512bw -mavx512dq -mavx512vl" ;;
    aarch64-*/neon.c) level= ;;
    *kernels/vector/*) exit 0 ;;
    *) level= sanitize=fuzzer-no-link,address,undefined ;;
  esac
  clang $flags $level -fsanitize=$sanitize -c "$1" -o "$out/objects/$(echo "$1" | tr / _).o"' sh
for target in engine kvot gguf; do
  clang $flags -fsanitize=fuzzer,address,undefined "tests/fuzz/$target.c" "$out"/objects/*.o -o "$out/$target" \
    $(pkg-config --libs libzstd libxxhash liburing) -lpthread -lm
done

# Short ones only: every kind of file is among them, and they run ten times as fast.
find "$data" -name '*.bin' -size -33 -exec cp {} "$out/seeds/engine" ';'
for file in "$out"/seeds/engine/*.bin; do
  name=$(basename "$file" .bin)
  # Files that are no caches of an engine are refused, and are no seeds.
  "$kvot" compress -qf --codec lossless "$file" -o "$out/seeds/kvot/$name.lossless" 2>/dev/null || continue
  "$kvot" compress -qf --bits 3 --group 32 --outliers 2 "$file" -o "$out/seeds/kvot/$name.ott"
done
python3 - "$out/seeds/gguf" <<'END'
import pathlib, sys
sys.path.insert(0, "tests/cli")
from bad_input import gguf
for n, options in enumerate([{}, {"architecture": "gemma3", "kv_heads": 1}, {"heads": 8, "version": 2}]):
    (pathlib.Path(sys.argv[1]) / str(n)).write_bytes(gguf(**options))
END

found=0
fuzz() { # target, longest input
  mkdir -p "$out/corpus/$1"
  echo "$1: $seconds s"
  "$out/$1" -max_total_time="$seconds" -max_len="$2" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
    -artifact_prefix="$out/$1-" "$out/corpus/$1" "$out/seeds/$1" >"$out/$1.log" 2>&1 || {
    found=1
    echo "$1: a finding, see $out/$1.log"
  }
  grep number_of_executed_units "$out/$1.log" || true
}
fuzz engine 16384
fuzz kvot 16384
fuzz gguf 4096
exit $found
