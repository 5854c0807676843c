# `make demo` and `make test` work on a fresh machine with Python 3.11, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The newest torch with a CPU build on every index we know; choose your CUDA build by installing it first.
TORCH ?= torch==2.13.0 torchvision==0.28.0

# Tests of code that runs in the process of the tests. Their coverage is measured, which takes 1.3 times their CPU seconds
# (41 s more, of a suite of 27 minutes); the others start processes of their own, which would each have to be traced.
TRACED := tests/blocklists tests/candidates tests/images tests/pairs tests/release $(wildcard tests/test_*.py)

.PHONY: demo test check coverage environment clean

environment: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[clip,test,dev]'
	touch $@

demo: environment
	$(BIN)/python -m cah_dask.demo

check: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell README.md CHANGELOG.md Makefile benchmarks cah_dask configs docs scripts slurm tests

# Fails below the floor in pyproject.toml.
coverage: environment
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest $(TRACED) --cov

# No test runs twice. Those on a real Slurm, which they start and stop, are part of it where Slurm can be installed.
test: check
	scripts/install-test-system
	$(MAKE) coverage
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest $(addprefix --ignore=,$(TRACED))

clean:
	rm -rf $(VENV) runs
