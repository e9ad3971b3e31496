#!/bin/sh
# Round trips of what llama.cpp saves for all architectures that it knows. Not part of run.sh: builds llama.cpp, a
# quarter of an hour on two cores.
# llama.cpp's own test-llama-archs makes a small model with random weights for each architecture; archs.py has the engine
# save sequence and session files of each, with flash attention and without, and runs them through kvot.
set -eu
cd "$(dirname "$0")/../.."
version=0.3.36
samples/setup.sh
work=build/archs
mkdir -p "$work"
if [ ! -x "$work/venv/bin/python" ]; then
    python3 -m venv "$work/venv"
    # A wheel may be at hand; else pip builds the engine.
    "$work/venv/bin/pip" install --quiet --find-links ../shared/wheels "llama-cpp-python==$version" scikit-build-core
fi
if [ ! -d "$work/llama_cpp_python-$version" ]; then
    "$work/venv/bin/pip" download --quiet --no-deps --no-binary llama-cpp-python -d "$work" "llama-cpp-python==$version"
    tar -xzf "$work/llama_cpp_python-$version.tar.gz" -C "$work"
fi
source=$work/llama_cpp_python-$version/vendor/llama.cpp
cmake -S "$source" -B "$work/llama.cpp" -DCMAKE_BUILD_TYPE=Release -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=ON \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TOOLS=OFF >"$work/cmake.log"
cmake --build "$work/llama.cpp" --target test-llama-archs -j "$(nproc)" >>"$work/cmake.log"
mkdir -p "$work/models"
"$work/llama.cpp/bin/test-llama-archs" -o "$work/models" >"$work/models.log" 2>&1 || true # some are not supported
"$work/venv/bin/python" tests/engines/archs.py "$work/models" "$work/states"
"$work/venv/bin/python" tests/roundtrip.py build/kvot "$work/states"
