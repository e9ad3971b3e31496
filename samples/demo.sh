#!/bin/sh
# A real llama-server reads a long prompt, its cache is saved and made small, and a new server goes on from there.
# The first run fetches what samples/setup.sh names; later ones need no network. One to two minutes.
set -eu
cd "$(dirname "$0")/.."
samples/setup.sh
exec build/venv/bin/python samples/demo.py build/kvot
