# Two commands on a fresh machine: `make quickstart` and `make test`. Each makes .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test check format bench bench-full tiny clean

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

quickstart: .venv/.done
	$(BIN)/python -m dfwe.run experiment=quickstart

test: .venv/.done
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The one gate command: lint, format, import layers, types.
check: .venv/.done
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/pyright

format: .venv/.done
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

# What the benchmarks run beside ours.
.venv/.bench: .venv/.done
	$(BIN)/pip install --quiet --constraint constraints.txt ctranslate2==4.8.1
	@touch $@

# Ours beside the reference ways, one thread each: benchmarks/results.json. DFWE_DATA names the corpus.
bench bench-full: export OMP_NUM_THREADS = 1
bench bench-full: export MERGEKIT = $(BIN)/mergekit-yaml
bench: .venv/.bench
	$(BIN)/python benchmarks/bench.py

bench-full: .venv/.bench
	$(BIN)/python benchmarks/bench.py --shape base

# Make the shipped tiny model anew (about 16 minutes on one core).
tiny: .venv/.done
	$(BIN)/python -m dfwe.run stage=pretrain model=tiny_made corpus=sample logger=csv
	rm -rf src/dfwe/assets/tiny
	cp -r "$$($(BIN)/python -m dfwe.run stage=pretrain model=tiny_made corpus=sample logger=csv | sed -n 's/^base model *//p')" src/dfwe/assets/tiny
	rm src/dfwe/assets/tiny/scores.json

clean:
	rm -rf .venv build dist
