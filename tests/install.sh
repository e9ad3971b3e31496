#!/bin/sh
# install.sh BUILD SOURCE: installs to a temporary place, then builds and runs a program against it, by pkg-config and by CMake,
# shared and static.
set -eu
build=$1 source=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cmake --install "$build" --prefix "$root/usr" >/dev/null
for file in bin/kvot include/kvot.h share/man/man1/kvot.1 share/bash-completion/completions/kvot \
    share/zsh/vendor-completions/_kvot share/fish/vendor_completions.d/kvot.fish share/doc/kvot/SPEC.md; do
    [ -f "$root/usr/$file" ] || { echo "$file was not installed"; exit 1; }
done
"$root/usr/bin/kvot" --version

cat >"$root/program.c" <<'END'
#include <kvot.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    kvot_error error;
    puts(kvot_version());
    return kvot_compress("/nonexistent", "/nonexistent.kvot", NULL, NULL, NULL, &error) != KVOT_E_IO || !strstr(error.text, "cannot open");
}
END
PKG_CONFIG_PATH=$(dirname "$(find "$root" -name kvot.pc)")
library=$(dirname "$PKG_CONFIG_PATH")
export PKG_CONFIG_PATH
cc "$root/program.c" -o "$root/shared" $(pkg-config --cflags --libs kvot)
LD_LIBRARY_PATH=$library "$root/shared"
cc "$root/program.c" -o "$root/static" -I"$root/usr/include" "$library/libkvot.a" \
    $(pkg-config --static --libs libzstd libxxhash liburing) -lm -pthread
"$root/static"

mkdir "$root/project"
cat >"$root/project/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(program LANGUAGES C)
find_package(kvot REQUIRED)
add_executable(program ../program.c)
target_link_libraries(program kvot::kvot)
END
cmake -S "$root/project" -B "$root/project/build" -DCMAKE_PREFIX_PATH="$root/usr" >/dev/null
cmake --build "$root/project/build" >/dev/null
"$root/project/build/program"
