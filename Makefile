# The two commands: `make run` starts a node, `make test` proves it. `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
SECONDS ?= 60
WORKERS ?= 2

# Whole files go to a worker, in their order: folders with long tests come first, a thousand short ones last.
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help run demo test test-setup lint types unit docs fuzz crash simulate bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

run: $(VENV)/run.stamp ## Install what is missing, then run a node with its data in ./var
	@$(BIN)/mailio-node run --init

demo: test-setup ## Two nodes: handshake, encrypted message, crash, rebuild; KEEP=1 keeps their folder
	@$(BIN)/python -m tests.demo

test: test-setup lint types ## Install what the tests need, start the real servers, run everything
	$(BIN)/python -m pytest $(SPREAD)

test-setup: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.setup

lint: $(VENV)/dev.stamp ## Style and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/dev.stamp ## Types
	$(BIN)/mypy

unit: $(VENV)/dev.stamp ## The quick tests only
	$(BIN)/python -m pytest tests/unit

crash: test-setup ## Die at every failpoint, lose power, fail calls, thoroughly; FAILPOINT=… HIT=… goes one way
ifdef FAILPOINT
	FAILPOINT=$(FAILPOINT) HIT=$(HIT) $(BIN)/python -m pytest tests/crash/matrix.py
else
	THOROUGH=1 $(BIN)/python -m pytest $(SPREAD) tests/crash
	$(BIN)/python -m pytest -n $(WORKERS) -vv tests/crash/matrix.py
endif

docs: $(VENV)/dev.stamp ## Write the generated pages: configuration and commands
	$(BIN)/python -m tests.docs

fuzz: $(VENV)/dev.stamp ## Fuzz every parser, SECONDS=60 each; TARGETS="…" for some of them
	$(BIN)/python -m tests.fuzz $(SECONDS) $(TARGETS)

simulate: $(VENV)/dev.stamp ## Many nodes in virtual time, with faults: SEEDS=1000, FROM=0; SEED=… tells the story of one
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000) --from $(or $(FROM),0))

bench: test-setup $(VENV)/bench.stamp ## Measure all (about half an hour; QUICK=1: some minutes, nothing recorded)
	$(BIN)/python -m benchmarks --size $(if $(QUICK),quick,full)

clean: ## Remove what was installed and built here; var/ (your node's data) stays
	rm -rf $(VENV) build *.egg-info tests/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A virtual environment. Debian splits `venv` off from Python: install it if we may, else say so.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make run PYTHON=/path/to/python3.11" >&2; exit 78; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing python3-venv"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null; \
	    $(PYTHON) -m venv $(VENV); \
	  else \
	    echo "Python's venv module is missing: sudo apt-get install python3-venv" >&2; exit 78; \
	  fi; }

$(VENV)/run.stamp: pyproject.toml | $(VENV)/bin/pip
	@echo "installing the node into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/bench.stamp: pyproject.toml | $(VENV)/dev.stamp
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[bench]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/pip
	@echo "installing the node and its test tools into $(VENV)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/run.stamp
