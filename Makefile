# make demo: install into .venv and run the main job on the embedded data.  make test: install with the tests and run them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test slow check audit networks docs format install clean help

help:
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## train, score and report on the embedded demonstration data (about five minutes on two cores)
	$(BIN)/segment train
	@echo "To watch and compare runs: $(BIN)/tensorboard --logdir runs    then open http://localhost:6006"

test: $(VENV)/.installed-test ## the fast tests, one process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

slow: $(VENV)/.installed-test ## the tests that take minutes each, hours in all, and new examples for the property tests
	$(BIN)/python -m pytest -m slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal -m "hypothesis and not gpu" --hypothesis-profile=random

check: $(VENV)/.installed-test docs ## lint, format, types, import rules, the site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Not a part of check: it asks a server about every package, and its answer changes without a change of the code.
audit: $(VENV)/.installed-test ## known vulnerabilities of the installed packages; asks a database on the internet
	$(PIP) pip-audit
	$(BIN)/pip-audit --local --skip-editable --progress-spinner off

docs: $(VENV)/.installed-test ## the site in site/; warnings, such as dead links, are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

networks: $(VENV)/.installed-test ## count the networks for `segment list` again, after a change of segment/networks or conf/network
	$(BIN)/python -m segment.config.network_table

format: $(VENV)/.installed-test ## put the code in ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.installed ## the command `segment` in .venv

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "segment needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (about 1.7 GB, a few minutes the first time) ..."
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.python pyproject.toml constraints.txt tests/requirements-no-deps.txt
	@echo "Installing into $(VENV) (about 1.7 GB, a few minutes the first time) ..."
	$(PIP) -e '.[test]'
	$(PIP) --no-deps -r tests/requirements-no-deps.txt
	@touch $@ $(VENV)/.installed

clean: ## remove the environment and the caches, not the runs
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache
