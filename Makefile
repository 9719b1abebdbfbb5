# Two commands on a fresh machine: `make quickstart` and `make test`. Each makes .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test check format clean

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

quickstart: .venv/.done
	$(BIN)/python -m dfwe.run experiment=quickstart

test: .venv/.done
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/.done
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/lint-imports
	$(BIN)/pyright

format: .venv/.done
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

clean:
	rm -rf .venv build dist
