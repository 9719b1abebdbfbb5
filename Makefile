# Two commands on a fresh machine: `make quickstart` and `make test`. Each makes .venv first.
PYTHON ?= python3
BIN := .venv/bin
TORCH := torch==2.13.0
OPTIMISERS := .venv/optimisers
TEST := $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: quickstart test test-fast coverage mutants check docs format lock torture fuzz bench bench-full regret outside tiny clean

# torch goes by version alone, for its file differs between package indexes; all else by hash.
.venv/.done: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

quickstart: .venv/.done
	$(BIN)/dfwe experiment=quickstart

test: .venv/.browser
	$(TEST)

# What opens pages in the system's Chromium, where there is one.
.venv/.browser: .venv/.done
	! command -v chromium > /dev/null || $(BIN)/pip install --quiet playwright==1.65.2
	@touch $@

# Without the modules marked slow.
test-fast: .venv/.done
	$(TEST) -m "not slow"

# Branch coverage of where numbers come from.
coverage: .venv/.done
	$(TEST) --cov=dfwe.statistics --cov=dfwe.search --cov=dfwe.weights --cov=dfwe.pipeline \
		--cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=90

# Which changes of where numbers come from no test notices (docs/notes/mutation.md), one process.
mutants: export OMP_NUM_THREADS = 1
mutants: .venv/.done
	mkdir -p build
	$(BIN)/python tools/mutants.py build/mutants.jsonl --code src/dfwe/statistics src/dfwe/search \
		$(addprefix src/dfwe/weights/,space.py layout.py rows.py) \
		--tests tests/statistics tests/search tests/weights

# The one gate command: lint, format, import layers and circles, the site, types.
check: .venv/.done docs
	$(BIN)/ruff check src tests benchmarks tools examples typings
	$(BIN)/ruff format --check src tests benchmarks tools examples typings
	$(BIN)/lint-imports
	$(BIN)/pyright

# The site, in build/site: a broken link or reference fails.
docs: .venv/docs/.done
	.venv/docs/bin/zensical build --strict --clean

.venv/docs/.done: docs/requirements.lock
	$(PYTHON) -m venv --clear .venv/docs
	.venv/docs/bin/pip install --quiet --require-hashes --requirement docs/requirements.lock
	@touch $@

format: .venv/.done
	$(BIN)/ruff check --fix src tests benchmarks tools examples typings
	$(BIN)/ruff format src tests benchmarks tools examples typings

# Pins what pyproject.toml's ranges allow, for Python 3.11 and later; a pin that still fits stays.
# `make lock UPGRADE=--upgrade` takes the newest of each.
lock: .venv/.lock
	echo $(TORCH) | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--fork-strategy fewest --generate-hashes --no-emit-package torch --extra dev $(UPGRADE) \
		--custom-compile-command "make lock" --output-file requirements.lock pyproject.toml -
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-deps \
		--generate-hashes $(UPGRADE) --custom-compile-command "make lock" \
		--output-file benchmarks/optimisers.lock benchmarks/optimisers.in
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes $(UPGRADE) --custom-compile-command "make lock" \
		--output-file docs/requirements.lock docs/requirements.in

.venv/.lock:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv==0.13.9
	@touch $@

# What the benchmarks run beside ours; its requirements are in the lock.
.venv/.bench: .venv/.done
	$(BIN)/pip install --quiet --no-deps ctranslate2==4.8.1
	@touch $@

# Kills, failing disks, damaged files and crowds of processes: docs/reliability.md (at most 20 minutes of one core).
torture: .venv/.done
	$(BIN)/python tools/torture.py

# Drawn inputs of every kind, sound and wrong, and what became of them: docs/reliability.md (at most 30 minutes of
# one core). `make fuzz SEED=1 EACH=5000` draws others, and more.
fuzz: export DFWE_FUZZ = $(or $(EACH),1000)
fuzz: export DFWE_FUZZ_SEED = $(or $(SEED),0)
fuzz: .venv/.done
	$(TEST) --dist loadfile -p no:randomly --show-capture=no tests/fuzz

# Ours beside the reference ways, one thread each: benchmarks/results.json. DFWE_DATA names the corpus.
bench bench-full: export OMP_NUM_THREADS = 1
bench bench-full: export MERGEKIT = $(BIN)/mergekit-yaml
bench: .venv/.bench
	$(BIN)/python benchmarks/bench.py

bench-full: .venv/.bench
	$(BIN)/python benchmarks/bench.py --shape base

# Regret of every search on synthetic dev splits: benchmarks/regret.json, docs/search.md.
regret: .venv/.done
	$(BIN)/python benchmarks/regret.py

# Other libraries' optimisers are installed apart, on top of .venv's packages: Hydra's sweeper,
# which a user may have there, needs optuna below 3.
$(OPTIMISERS)/.done: .venv/.done benchmarks/optimisers.lock
	$(BIN)/python -m venv --clear $(OPTIMISERS)
	$(BIN)/python -c "import sysconfig; \
		print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" > \
		$$($(OPTIMISERS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/dfwe.pth
	$(OPTIMISERS)/bin/pip install --quiet --no-deps --require-hashes \
		--requirement benchmarks/optimisers.lock
	@touch $@

# Their regret on the same landscapes: benchmarks/outside.json, docs/search.md.
outside: export OMP_NUM_THREADS = 1
outside: $(OPTIMISERS)/.done
	$(OPTIMISERS)/bin/python benchmarks/outside.py

# Make the shipped tiny model anew (about 16 minutes on one core).
tiny: .venv/.done
	$(BIN)/dfwe stage=pretrain model=tiny_made corpus=sample logger=csv
	rm -rf src/dfwe/assets/tiny
	cp -r "$$($(BIN)/dfwe stage=pretrain model=tiny_made corpus=sample logger=csv | sed -n 's/^base model *//p')" src/dfwe/assets/tiny
	rm src/dfwe/assets/tiny/scores.json

clean:
	rm -rf .venv build dist
