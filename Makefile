# `make demo` and `make test` do all the set-up on a fresh machine with Python 3.11.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || command -v python3)
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

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

# A process for each core, with one thread: the models are so small that more threads only wait.
test: $(READY)  ## the tests, without those that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long and not browser" -n auto --maxprocesses 8 --dist loadfile

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

format: $(READY)  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(READY)  ## the source distribution and the wheel, checked, in dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean:  ## remove the environment and what runs wrote
	rm -rf $(VENV) runs build dist

.PHONY: help setup demo test test-long test-browser lint format dist clean
