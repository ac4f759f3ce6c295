# `make` lists what there is. Everything runs in .venv, which the first target makes.

PYTHON ?= python3
BIN := .venv/bin

# The tests start some hundred Pythons, which shall not compile all they import each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-properties test-faults test-faults-short torture torture-short check lint types psycopg bench bench-peers reference fmt clean

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 19

# uv comes from PyPI into the same folder, so that nothing but Python has to be there before.
.venv/ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m ensurepip >/dev/null
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv sync --quiet --frozen --inexact --python $(BIN)/python
	@touch $@

demo: .venv/ready ## Watch a pipeline pass megabytes of HTML, on a PostgreSQL of its own
	@$(BIN)/pgflow-events demo

test: .venv/ready ## Run the tests (on PostgreSQL 18, and 15 where it is installed)
	$(BIN)/pytest -n 6 --dist loadfile --no-loadscope-reorder --durations=40

test-properties: .venv/ready ## Try 500 examples of each property that needs no database
	HYPOTHESIS_PROFILE=thorough $(BIN)/pytest -n 4 -m hypothesis tests/unit

test-faults: .venv/ready ## Kill, stop, cut and fill up whatever can be: see docs/inside/faults.md
	$(BIN)/pytest -n 6 --dist worksteal tests/faults

test-faults-short: .venv/ready ## Those that take little time
	$(BIN)/pytest -n 6 --dist worksteal -m "not slow_fault" tests/faults

lint: .venv/ready ## Style, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: .venv/ready ## Static types
	$(BIN)/mypy

psycopg: .venv/ready ## Run the connection's tests on the oldest and newest psycopg, binary and Python
	@PATH="$(CURDIR)/$(BIN):$$PATH" tests/psycopg_matrix.sh

torture: .venv/ready ## Kill, stop and crash what there is for ten minutes; TORTURE_SEED=7 does it again
	$(BIN)/python -m tests.torture --seconds 600 $(TORTURE_SEED:%=--seed %)

torture-short: .venv/ready ## The same for a minute in all, with three seeds
	$(BIN)/python -m tests.torture --seconds 11 --seed 1 --seed 2 --seed 3

check: lint types test test-properties test-faults-short torture-short psycopg ## All that CI does

bench: .venv/ready ## Measure: see docs/measured/benchmarks.md
	$(BIN)/python -m tests.bench

bench-peers: .venv/ready ## Measure other engines beside us: see tests/bench/peers/README.md
	$(BIN)/python -m tests.bench.peers

reference: .venv/ready ## Write docs/reference from the docstrings and the comments in sql/functions
	$(BIN)/python -m tests.parts.reference

fmt: .venv/ready ## Format the code
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

clean: ## Remove what was made here
	rm -rf .venv tests/bench/peers/.envs dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
