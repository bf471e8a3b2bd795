# Everything that is done often. `make help` lists it.
PYTHON ?= python3
MODEL  ?= tiny
PYTEST_ARGS ?=
JOBS   ?= 2
DATA   ?= ../shared/data
SOAK_ARGS ?=

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.ready-docs
REFERENCE := .venv-reference
REFERENCE_READY := $(REFERENCE)/.ready

QUICKSTART_tiny    := configs/quickstart.yaml
QUICKSTART_smollm2 := configs/smollm2.yaml

# Where Python is told not to keep compiled modules, every process compiles torch and transformers again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-long test-gpu test-reference check format docs bench bench-search bench-graders
.PHONY: compare study warm-starts
.PHONY: bench-explorer picture value-curves suite soak losses tiny clean

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything the other commands need (with vLLM where it can be had)

$(READY): pyproject.toml $(wildcard requirements/*.txt) scripts/setup.sh scripts/pip_settings.sh scripts/pip_setting.py
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/setup.sh
	@touch $@

quickstart: setup ## train a model on a CPU and print what it learned; MODEL=smollm2 for a real language model
	$(if $(QUICKSTART_$(MODEL)),,$(error MODEL is "$(MODEL)"; it can be tiny or smollm2))
	$(BIN)/gpo fit --config $(QUICKSTART_$(MODEL))
	@echo 'Where its solutions turned: open the report.html named above in a browser. How to read it: docs/explore.md'

# Tests of the explorer page look for Chromium (apt-get install chromium, or GPO_CHROMIUM=/path) and are skipped without.
test: setup ## the whole test suite; PYTEST_ARGS="-k dpo -x" to narrow it, JOBS=1 to run one test at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-long: setup ## the tests that take minutes: vLLM servers and engines killed in the middle of their work
	$(BIN)/python -m pytest -m long $(PYTEST_ARGS)

test-gpu: setup ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

test-reference: setup $(REFERENCE_READY) ## the losses against numbers that trl, verl and OpenRLHF give anew
	$(REFERENCE)/bin/python scripts/loss_references $(REFERENCE)/references
	GPO_REFERENCES=$(REFERENCE)/references $(BIN)/python -m pytest -q tests/losses/test_references.py

$(REFERENCE_READY): requirements/reference.txt | $(READY)
	@VENV="$(VENV)" REFERENCE="$(REFERENCE)" bash scripts/setup_reference.sh
	@touch $@

check: setup ## style, formatting, types, direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

format: setup ## sort imports and format in place
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

docs: $(DOCS_READY) ## build the documentation into site/, its reference pages from the code
	$(BIN)/python scripts/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(DOCS_READY): $(READY)
	@VENV="$(VENV)" bash scripts/setup.sh docs
	@touch $@

bench: setup ## run every benchmark; each prints a table and writes JSON
	@set -e; for benchmark in $(wildcard benchmarks/[a-z]*.py) benchmarks/search benchmarks/soak; do echo "== $$benchmark"; PYTHONPATH=. $(BIN)/python $$benchmark; done

bench-search: setup ## search strategies: simulated and real value curves, planted errors, overhead
	$(BIN)/python benchmarks/search

bench-explorer: setup ## the explorer page of 1,000 and 5,000 trajectories in headless Chromium
	PYTHONPATH=. $(BIN)/python benchmarks/explorer.py

picture: setup ## the moving picture of README: rollouts of SmolLM2, half an hour on 2 cores; needs Chromium and make quickstart MODEL=smollm2
	$(BIN)/gpo explore --config configs/explore/smollm2_sums.yaml --config configs/explore/look.yaml --output runs/picture
	PYTHONPATH=. $(BIN)/python scripts/picture.py runs/picture/rollouts.parquet docs/images/explorer.webp

value-curves: setup ## measure SmolLM2's value curves anew, the data that bench-search reads; an hour on 2 cores
	$(BIN)/gpo explore --config configs/explore/smollm2_sums.yaml --output runs/value-curves/sums
	$(BIN)/gpo explore --config configs/explore/smollm2_legs.yaml --output runs/value-curves/legs
	$(BIN)/python benchmarks/search/curves.py sums=runs/value-curves/sums/rollouts.parquet legs=runs/value-curves/legs/rollouts.parquet

suite: setup ## every benchmark on small subsets of ../shared/data with SmolLM2, in one run
	$(BIN)/gpo test --config configs/evaluation/suite.yaml

bench-graders: setup ## graders against others' verdicts, hostile texts and the clock; DATA=../shared/data
	$(BIN)/python benchmarks/graders.py --data "$(DATA)"

soak: setup ## kill a run, its engine and its grader at random moments; 200 iterations for leaks; SOAK_ARGS="--kills 5"
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak $(SOAK_ARGS)

losses: setup ## run every loss for a few iterations and print a table
	$(BIN)/python benchmarks/losses.py

compare: setup ## the base method and ours at equal tokens, side by side, with a picture; some minutes on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study benchmarks/study/compare.yaml

study: setup ## methods at equal tokens on many tasks, eight seeds, tuned: hours; goes on where it was stopped
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/study benchmarks/study/full.yaml

warm-starts: setup ## make the tiny models that solve 1, 8 and 30 % of the built-in tasks; runs make those they need
	OMP_NUM_THREADS=1 $(BIN)/python scripts/make_warm_starts.py

tiny: setup ## make the tiny built-in weights anew
	$(BIN)/python scripts/make_tiny.py

clean: ## remove the environment and everything that was built
	rm -rf $(VENV) $(REFERENCE) site dist build .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
