# `make demo` and `make test` do all the set-up on a fresh machine with Python 3.11.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Warnings are errors, unresolved names too; all of them are shown.
SPHINX := $(BIN)/python -m sphinx -j auto -W -n --keep-going -d docs/_build/doctrees

.DEFAULT_GOAL := help

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[torch,mxnet,dev]"
	touch $@

setup: $(READY)  ## an environment of its own in .venv, with both frameworks

demo: $(READY)  ## fine-tune on both backends, compare, draw the curves (2 minutes)
	$(BIN)/bertnli demo --output runs/demo

# A process for each core, and one for when others wait for a clock; each with one thread, for the
# models are so small that more threads only wait.
test: JOBS ?= $(shell $(BIN)/python -c "from bertnli._util.machine import available_cores as cores; print(min(8, cores() + 1))")
test: $(READY)  ## the tests, without those that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long and not browser" -n $(JOBS) --dist loadfile

test-long: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -m long

# Debian's Chromium is taken where there is one; else `.venv/bin/playwright install chromium` first.
test-browser: $(READY)  ## the tests of the page that need a browser
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[browser]"
	$(BIN)/python -m pytest -m browser

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pip-audit has an environment of its own. PyPI knows nothing of a build such as torch's +cpu.
audit: $(READY)  ## known holes in what is installed; needs a network
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+.*//' > $(VENV)/audit/installed.txt
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r $(VENV)/audit/installed.txt

docs: $(READY)  ## the site, in docs/_build/html; each block of code on it is run
	$(SPHINX) -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

linkcheck: $(READY)  ## the site's links to other sites; needs a network
	$(SPHINX) -b linkcheck docs docs/_build/linkcheck

notebooks: $(READY)  ## the tutorial as notebooks, run, in docs/notebooks
	$(BIN)/python docs/build_notebooks.py docs/notebooks --execute

format: $(READY)  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(READY)  ## the source distribution and the wheel, checked, in dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean:  ## remove the environment and what runs and builds wrote
	rm -rf $(VENV) runs build dist docs/_build docs/notebooks

.PHONY: help setup demo test test-long test-browser audit docs linkcheck notebooks lint format dist clean
