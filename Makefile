.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
REAL_PROGRAMS ?= $(VENV)/real
PIP    := $(BIN)/pip --disable-pip-version-check --quiet
INPUTS := pyproject.toml constraints.txt hatch_build.py web/package.json web/package-lock.json

.PHONY: help run test check format interop bench lock clean
help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tailbox needs Python 3.11 or newer; PYTHON=… names another one")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(INPUTS) | $(VENV)/bin/python
	@echo "setting up $(VENV) (a minute or so)"
	@$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev: $(INPUTS) | $(VENV)/bin/python
	@echo "setting up $(VENV) for tests (a minute or two)"
	@$(PIP) install --constraint constraints.txt --editable '.[dev,notebook]'
	@touch $@ $(VENV)/.run

run: $(VENV)/.run  ## set up, then start a tailnet on this machine
	@$(BIN)/tailbox lab

test: $(VENV)/.dev  ## set up, then run the tests
	@$(BIN)/pytest

interop: $(VENV)/.dev  ## against the real programs, where Go installs them
	@! command -v go >/dev/null || .ci/real-programs $(REAL_PROGRAMS)
	TAILBOX_REAL_PROGRAMS=$(abspath $(REAL_PROGRAMS)) $(BIN)/pytest -m interop -ra tests/interop

check: $(VENV)/.dev  ## format, lint, types
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

format: $(VENV)/.dev  ## let ruff format and mend what it can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## measure: throughput and latency, relayed and direct, beside plain TCP
	@$(BIN)/python -m bench.throughput --kernel --latency --streams 8 --connections 1000
	@$(BIN)/python -m bench.throughput --relayed --latency
	@$(BIN)/python -m bench.ladder

lock:  ## renew constraints.txt from the newest versions
	@rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	@$(VENV)/lock/bin/pip --quiet install '.[dev,notebook]'
	@{ head -1 constraints.txt; $(VENV)/lock/bin/pip freeze | grep -v '^tailbox' | sed 's/^\(soupsieve==.*\)/\1; python_full_version >= "3.11.5"/'; } > constraints.new && mv constraints.new constraints.txt

clean:  ## remove what make made
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache web/node_modules web/dist
