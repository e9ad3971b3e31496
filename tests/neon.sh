#!/bin/sh
# Builds everything for AArch64 with Debian's cross compiler and runs it under qemu: the NEON level against scalar, the
# unit tests, and whole files against those that this machine makes.
#
# Usage: neon.sh BUILD_DIRECTORY KVOT PYTHON. Libraries for AArch64 are fetched into BUILD_DIRECTORY/neon; nothing is
# installed. Exits with 77 where there is no compiler, no qemu, or no Debian to fetch from.
set -eu
mkdir -p "$1/neon"
build=$(cd "$1/neon" && pwd)
kvot=$2
python=$3
cd "$(dirname "$0")/.."
for tool in aarch64-linux-gnu-gcc qemu-aarch64-static apt-get dpkg-deb; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 77; }
done
root=$build/root
packages="libzstd1 libzstd-dev libxxhash0 libxxhash-dev libjansson4 libjansson-dev libcunit1 libcunit1-dev liburing2 liburing-dev"
if [ "$(cat "$root/ready" 2>/dev/null)" != "$packages" ]; then
    rm -rf "$root"
    mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial"
    # An apt of its own: this machine's need not know of another architecture.
    apt="apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::status=/dev/null
      -o Dir::State::lists=$root/apt/lists -o Dir::Cache=$root/apt/cache -o APT::Sandbox::User="
    (cd "$root" && $apt update && $apt download $packages) || { echo "skipped: no packages for AArch64"; exit 77; }
    for package in "$root"/*.deb; do
        dpkg-deb -x "$package" "$root"
    done
    echo "$packages" >"$root/ready"
fi
export PKG_CONFIG_LIBDIR="$root/usr/lib/aarch64-linux-gnu/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root"
cmake -S . -B "$build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DCMAKE_OBJCOPY=/usr/bin/aarch64-linux-gnu-objcopy \
    -DCMAKE_LINKER=/usr/bin/aarch64-linux-gnu-ld -DKVOT_WERROR=ON -DKVOT_NVCC=OFF \
    -DCMAKE_EXE_LINKER_FLAGS="-L$root/usr/lib/aarch64-linux-gnu -Wl,-rpath-link,$root/usr/lib/aarch64-linux-gnu" >"$build/build.log"
cmake --build "$build" -j 2 --target kvot_command unit checkkernels >>"$build/build.log" 2>&1 ||
    { cat "$build/build.log"; exit 1; }
emulate="qemu-aarch64-static -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=$root/usr/lib/aarch64-linux-gnu"
$emulate "$build/tests/checkkernels" --level neon
$emulate "$build/tests/unit" >"$build/unit.log" || { cat "$build/unit.log"; exit 1; }
grep -A 4 'Run Summary' "$build/unit.log"
"$python" tests/cli/levels.py "$kvot" tests/data/llama $emulate "$build/kvot"
