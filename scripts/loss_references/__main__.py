"""Writes what the other libraries make of our losses, and prints it as a table.

    .venv-reference/bin/python scripts/loss_references [directory]      default: tests/losses/reference

Not `-m scripts.loss_references`: verl puts a package `scripts` of its own into the environment, which would be found.
"""

import sys
from importlib import import_module
from pathlib import Path

# the folder above in the place of this one, where `openrlhf` would be our module instead of theirs
sys.path[0] = str(Path(__file__).parents[1])

import_module("loss_references.files").main(*map(Path, sys.argv[1:2]))
