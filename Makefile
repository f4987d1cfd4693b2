PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types format setup

demo: .venv/installed  ## three routers on real digits, a table and outputs/demo/report.html
	$(BIN)/capsbench train -m experiment=demo router=fm,dynamic,em seed=1,2
	$(BIN)/capsbench report experiment=demo

test: .venv/installed
	$(BIN)/pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: .venv/installed  ## .venv with the tested versions

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: CapsBench needs Python 3.11 or later, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
