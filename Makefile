# Everything here runs in .venv, which is made on first use and made anew when its inputs change.

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
VENV ?= .venv
OLDEST ?= .venv-oldest
JOBS ?= 2
BIN := $(VENV)/bin
INPUTS := pyproject.toml constraints.txt

# Tests start many processes, each of which would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-slow test-gpu test-all test-oldest lint data clean

run: $(VENV)/.installed  ## run the quickstart; results in configs/runs/quickstart
	$(BIN)/stackfeat run configs/quickstart.yaml

test: $(VENV)/.installed-dev  ## the default tests (without those marked slow)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-slow: $(VENV)/.installed-dev  ## only the tests marked slow
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m slow

test-gpu: $(VENV)/.installed-dev  ## only the tests that compute on a CUDA device; skipped where torch sees none
	$(BIN)/python -m pytest -m gpu

test-all: $(VENV)/.installed-dev  ## all tests, slow ones included
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "slow or not slow"

test-oldest: $(OLDEST)/.installed  ## the default tests with the oldest supported versions (.ci/oldest.txt)
	$(OLDEST)/bin/python -m pytest -n $(JOBS) --dist loadfile

lint: $(VENV)/.installed-dev  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

data: $(VENV)/.installed  ## train and test files of the benchmark data sets, in work/data
	$(BIN)/python benchmarks/prepare_data.py

clean:  ## remove the environment and caches; results and stores stay
	rm -rf $(VENV) $(OLDEST) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or later is needed; none was found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[parquet]"
	@touch $@

$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed

$(OLDEST)/.installed: pyproject.toml .ci/oldest.txt
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or later is needed; none was found on PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet -c .ci/oldest.txt -e ".[parquet,tabular,boosting,images,zstd]" \
		pytest pytest-timeout pytest-xdist hypothesis pyyaml
	@touch $@
