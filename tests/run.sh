#!/bin/sh
# Builds the project and runs every test, after getting the machine ready. Fine to run again.
# The same tests run a second time on a build with AddressSanitizer and UBSan, but for those with real engines.
set -eu
cd "$(dirname "$0")/.."
set -- -DKVOT_WERROR=ON -DKVOT_PYTHON="$PWD/build/venv/bin/python"
softcuda=../shared/softcuda # a CUDA driver that interprets PTX
if [ -d "$softcuda" ]; then
    set -- "$@" -DKVOT_SOFTCUDA="$PWD/build/softcuda"
fi
KVOT_PACKAGES="clang libclang-rt-dev binutils gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
    slurmctld slurmd slurm-client munge parallel" samples/setup.sh "$@"
if [ -d "$softcuda" ] && ! grep -q '^KVOT_NVCC:.*NOTFOUND' build/CMakeCache.txt; then
    mkdir -p build/softcuda
    cp -ru --no-preserve=mode "$softcuda/." build/softcuda # it may be read-only
    make -C build/softcuda >build/softcuda.log
fi
ctest --test-dir build --output-on-failure -j "$(nproc)"
echo "build with sanitizers"
cmake -S . -B build/sanitized -DKVOT_SANITIZE=address,undefined -DKVOT_CUDA_ARCHITECTURES= "$@" >build/sanitized.log
cmake --build build/sanitized -j "$(nproc)" >>build/sanitized.log
ctest --test-dir build/sanitized --output-on-failure -j "$(nproc)"
