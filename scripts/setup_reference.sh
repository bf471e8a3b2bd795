#!/usr/bin/env bash
# Makes the environment in which scripts/loss_references runs trl, verl and OpenRLHF. Called by `make test-reference`.
#
# It is separate from the one that everything else runs in, and complete: requirements/reference.txt names all of it, so
# nothing is resolved, and torch is the CPU build even where there is a GPU.
#
# Set from outside:
#   VENV         the environment made by `make setup`; its Python and its uv are used (.venv)
#   REFERENCE    where this one is made (.venv-reference)
#   TORCH_INDEX  where uv looks for the CPU build of torch before it tries your own index; "none": nowhere
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=${VENV:-.venv}
REFERENCE=${REFERENCE:-.venv-reference}
TORCH_INDEX=${TORCH_INDEX:-cpu}

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$@" >&2; exit 1; }

source scripts/pip_settings.sh

install() {
    "$VENV/bin/uv" pip install --python "$REFERENCE/bin/python" "${INDEXES[@]}" --no-deps "$@" \
        --requirement requirements/reference.txt
}

install_with_cpu_torch() {
    if [ "$TORCH_INDEX" != none ]; then
        install --torch-backend "$TORCH_INDEX" && return
        say "not to be had with the CPU build of torch from the PyTorch project; trying your own index alone"
    fi
    install
}

[ -x "$VENV/bin/uv" ] || die "$VENV has no uv; run make setup first"
[ -x "$REFERENCE/bin/python" ] || "$VENV/bin/uv" venv --quiet --python "$VENV/bin/python" "$REFERENCE"
read_pip_settings
install_with_cpu_torch ||
    die "the packages of requirements/reference.txt could not be installed; they come from PyPI, so a network or an" \
        "index that has them is needed. make test compares with the numbers in tests/losses/reference without them."
"$REFERENCE/bin/python" -c 'import torch, trl' ||
    die "what was installed into $REFERENCE cannot be imported; is torch a CPU build? (TORCH_INDEX is $TORCH_INDEX)"
say "ready: $REFERENCE"
