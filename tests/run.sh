#!/bin/sh
# Builds the project and runs every test, after getting the machine ready. Fine to run again.
# The same tests run a second time on a build with AddressSanitizer and UBSan, but for those with real engines.
set -eu
cd "$(dirname "$0")/.."
KVOT_PACKAGES="clang libclang-rt-dev binutils" samples/setup.sh -DKVOT_WERROR=ON -DKVOT_PYTHON="$PWD/build/venv/bin/python"
ctest --test-dir build --output-on-failure -j "$(nproc)"
echo "build with sanitizers"
cmake -S . -B build/sanitized -DKVOT_WERROR=ON -DKVOT_SANITIZE=address,undefined \
    -DKVOT_PYTHON="$PWD/build/venv/bin/python" >build/sanitized.log
cmake --build build/sanitized -j "$(nproc)" >>build/sanitized.log
ctest --test-dir build/sanitized --output-on-failure -j "$(nproc)"
