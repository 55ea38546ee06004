.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help run test check format clean
help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.run: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.run

run: $(VENV)/.run  ## set up, then start a tailnet on this machine
	@$(BIN)/tailbox lab

test: $(VENV)/.dev  ## set up, then run the tests
	$(BIN)/pytest

check: $(VENV)/.dev  ## format, lint, types
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

format: $(VENV)/.dev  ## let ruff format and mend
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:  ## remove what make made
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache
