# Every target sets up what it needs. `make demo` and `make test` work on a machine with only python, make and git.

PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3 python; do \
  "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# tests wait for servers more than they compute: two for each core
WORKERS := $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
# tests of a module stay together, and a worker that has none left takes some of another's
PYTEST := $(BIN)/python -m pytest --dist worksteal
export DO_NOT_TRACK := 1
export DAGSTER_DISABLE_TELEMETRY := yes
export RUNTIME__DLTHUB_TELEMETRY := false
# compiling the program and the tests takes as long as importing what they use, in each of many processes
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo dev notebook test test-all coverage mutants lint format bench chaos lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## Create .venv with the locked dependencies

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found on PATH." >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) (about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)  ## Generate the bundled prompt sets against the sandbox: no key, no cost
	@$(BIN)/segmind-dagster demo

dev: $(READY)  ## Open the Dagster UI on 127.0.0.1:3000; without a key, with the sandbox
	@$(BIN)/segmind-dagster dev

notebook: $(READY)  ## Open the notebook over what was loaded last, on 127.0.0.1
	@$(BIN)/marimo edit notebooks/segmind.py --host 127.0.0.1

test: $(READY)  ## Run the tests: pure Python, real HTTP to the sandbox
	$(PYTEST) -n $(WORKERS) -m "not kill and not browser and not postgres"

test-all: $(READY)  ## Also the tests that kill processes, drive Chromium and use PostgreSQL, and properties in depth
	HYPOTHESIS_PROFILE=deep $(PYTEST) -n $(WORKERS) -m "hypothesis and not (kill or browser or postgres)"
	$(PYTEST) -n $(WORKERS) -m "(kill or postgres) and not browser"
	$(PYTEST) -n auto -m browser  # apart: Playwright keeps an event loop running in its process

coverage: $(READY)  ## The same as `make test`, with the lines that no test reaches
	$(PYTEST) -n $(WORKERS) -m "not kill and not browser and not postgres" --cov --cov-report=term:skip-covered

mutants: $(READY)  ## Take guards of the money path out one at a time: a test has to fail
	$(BIN)/python segmind_dagster_tests/mutants.py

lint: $(READY)  ## ruff and strict mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## Let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## Measure against simpler things that do the same work, and at scale
	$(BIN)/python -m bench
	$(BIN)/python -m bench --preset large
	$(BIN)/python -m bench.scale
	$(BIN)/python -m bench.rate

chaos: $(READY)  ## Kill runs against a sandbox that misbehaves, play one that lies, compare the books
	$(BIN)/python -m bench.chaos

clean:  ## Remove .venv and caches; data folders stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

lock:  ## Resolve requirements.lock again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --no-config --no-emit-index-url --no-emit-find-links \
	  --generate-hashes --custom-compile-command "make lock" --group dev pyproject.toml -o requirements.lock
