# `make demo` and `make test` work on a fresh machine with Python 3.11, make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The newest torch with a CPU build on every index we know; choose your CUDA build by installing it first.
TORCH ?= torch==2.13.0 torchvision==0.28.0

.PHONY: demo test check environment clean

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
	$(BIN)/codespell README.md CHANGELOG.md Makefile benchmarks cah_dask configs docs examples scripts slurm tests

# Fails below the floor of coverage in pyproject.toml. No test runs twice; those on a real Slurm, which they start and stop,
# are part of it where Slurm can be installed. They mostly wait: two processes share the tests (tests/conftest.py).
test: check
	scripts/install-test-system
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest --numprocesses=2 --cov

clean:
	rm -rf $(VENV) runs
