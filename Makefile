# make demo   draw a data set (or DATA=<a VOC folder>), train, mine and infer through start.py
# make test   every test;   make check   format, lint, types and tests
# VENV=<folder> or PYTHON=<interpreter> reuses an environment that is there.

VENV ?= .venv
BASE_PYTHON ?= python3
DATA ?=
OUT ?= runs/demo
# One test process per core with one thread each; a crash then names its test and spares the rest.
TEST_PROCESSES ?= auto

ifdef PYTHON
READY :=
else
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
endif

.PHONY: demo test lint types check format bench clean

$(VENV)/.ready: extra-requirements.txt requirements-dev.txt
	test -x $(VENV)/bin/python || $(BASE_PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: $(READY)
	$(PYTHON) -m tools.demo --out $(OUT) $(if $(DATA),--data "$(DATA)")

test: $(READY)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(TEST_PROCESSES)

lint: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: $(READY)
	$(PYTHON) -m mypy .

check: lint types test

format: $(READY)
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

bench: $(READY)
	$(PYTHON) -m bench.training_step
	$(PYTHON) -m bench.inference

clean:
	rm -rf build runs .pytest_cache .mypy_cache .ruff_cache
