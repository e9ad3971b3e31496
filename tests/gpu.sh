#!/bin/sh
# Runs every CUDA test on a real GPU, device 0, measures it, and looks for bad accesses and races. Prints Markdown, for
# kernels/cuda/README.md; the rest is in build/gpu. Takes nothing from a network. Arguments go to cmake:
# -DKVOT_CUDA_ARCHITECTURES=90 compiles for one kind of GPU only. KVOT_BENCH_MB is the size of a tensor in MiB, 256 by
# default. Exit code 77 where there is no device.
set -eu
cd "$(dirname "$0")/.."

missing=
for tool in cmake gcc make pkg-config python3; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
command -v nvcc >/dev/null || [ -x "${CUDA_PATH:-/usr/local/cuda}/bin/nvcc" ] || missing="$missing nvcc"
for library in libzstd libxxhash liburing jansson cunit; do
    pkg-config --exists "$library" 2>/dev/null || missing="$missing $library(-dev)"
done
if [ -n "$missing" ]; then
    echo "gpu.sh: missing:$missing" >&2
    exit 1
fi
if ! python3 - <<'END'; then
import ctypes, sys
try:
    driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
    result = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
except OSError as error:
    sys.exit(f"skipped: {error}")
if result or not count.value:
    sys.exit(f"skipped: no CUDA device, error {result}")
END
    exit 77
fi

build=build/gpu
data=tests/data/llama
check=$build/tests/check_cuda
mkdir -p $build
if ! { cmake -S . -B $build "$@" && cmake --build $build -j "$(nproc)"; } >$build/build.log 2>&1; then
    cat $build/build.log >&2
    exit 1
fi

# A test that skips itself counts as failed: there is a device.
failed=0
try() {
    name=$1
    shift
    start=$(date +%s)
    if "$@" >$build/test.log 2>&1; then
        result=passed
    else
        result="**failed**, exit code $?"
        failed=1
        cat $build/test.log >&2
    fi
    echo "| $name | $result | $(($(date +%s) - start)) |"
}
echo "| test | result | seconds |"
echo "|---|---|---|"
for suite in kernels lanes arrays faults library_faults; do
    try "check_cuda $suite" $check $suite $data
done
try "levels.py cuda" python3 tests/cli/levels.py $build/kvot $data cuda
echo
$build/tests/bench_cuda "${KVOT_BENCH_MB:-256}" || failed=1
echo
echo "| compute-sanitizer | result | seconds |"
echo "|---|---|---|"
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        for suite in kernels lanes arrays; do
            try "$tool, $suite" compute-sanitizer --tool $tool --error-exitcode 1 $check $suite $data
        done
    done
else
    echo "| not there | | |"
fi
exit $failed
