# A newcomer needs two of these: `make demo` shows the main job, `make test` checks the code.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs bench clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-view  ## segment a synthetic volume and show the result in ./demo
	$(BIN)/python -m lsd_dask.workflows.demo

test: lint  ## check style and types, then run all tests
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-ci} $(BIN)/python -m pytest --numprocesses auto --dist loadfile \
	    --no-loadscope-reorder --durations 15

lint: $(VENV)/.installed-dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## sort imports, repair what can be repaired, format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs  ## build the documentation, with the API, into ./site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed-dev  ## measure every step beside its peer, and write docs/benchmarks.md
	$(BIN)/python benchmarks/all.py

clean:  ## remove the virtual environment, caches and what the demo wrote
	rm -rf $(VENV) demo site build dist bench-results *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamp of an extra is newer than pyproject.toml where its dependencies are installed.
$(VENV)/.installed-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { \
	    echo "lsd_dask needs Python 3.12 or newer, '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)."; \
	    echo "With another one installed:  make $(MAKECMDGOALS) PYTHON=python3.12"; \
	    echo "With pyenv:                  pyenv install 3.12   (.python-version then selects it)"; \
	    echo "With conda:                  conda env create -f environment.yml"; \
	    exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[$*]'
	@touch $@
