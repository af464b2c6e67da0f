# make quickstart   set up .venv and run the small default sweep to a report
# make check        set up .venv and do exactly what CI does: format, lint, types, import arrows, tests
# make slurm        install the SLURM packages that the tests bring up, where they are missing (check does it too)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
SOURCES := tokscale sweeps slurm analysis tests benchmarks

.PHONY: quickstart check format lint types arrows slurm test clean

quickstart: $(VENV)/.installed
	$(BIN)/tokscale quickstart

check: slurm lint types arrows test

$(VENV)/.installed: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable .
	@touch $@

$(VENV)/.developer: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $@

format: $(VENV)/.developer
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

lint: $(VENV)/.developer
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: $(VENV)/.developer
	$(BIN)/mypy

arrows: $(VENV)/.developer
	$(BIN)/lint-imports --no-cache

slurm:
	tests/cluster/install-slurm.sh

test: slurm $(VENV)/.developer
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadgroup

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
