# make demo   generate a synthetic data set (or DATA=<a labelled folder>), train, mine and infer through start.py;
#             WEIGHTS=<a checkpoint to start from>, OUT=<folder>, and DEMO="--limit 64 --set epochs=10" for a short one
# make test   every test;   make check   format, lint, types and tests
# make generate   every generated table and file anew
# make test-oldest   every test with Python 3.10 and the lowest versions of all requirements
# make site   the pages as a site, in build/site/html
# make bench  ours beside yolov5 and ultralytics, as one table (BENCH="--quick --only inference")
# VENV=<folder> or PYTHON=<interpreter> reuses an environment that is there.

VENV ?= .venv
BASE_PYTHON ?= python3
DATA ?=
OUT ?= runs/demo
DEMO ?=
BENCH ?=
# One test process per core with one thread each; a crash then names its test and spares the rest.
TEST_PROCESSES ?= auto

# The lowest versions that extra-requirements.txt states, on the lowest Python.
OLDEST ?= build/oldest
OLDEST_PYTHON ?= python3.10

ifdef PYTHON
READY :=
else
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
endif

.PHONY: demo test test-oldest lint types check format generate site bench clean

$(VENV)/.ready: extra-requirements.txt requirements-dev.txt
	test -x $(VENV)/bin/python || $(BASE_PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: $(READY)
	@$(PYTHON) -m utils.environment
	$(PYTHON) -m tools.demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)") \
		$(if $(WEIGHTS),--weights "$(WEIGHTS)") $(DEMO)

test: $(READY)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(TEST_PROCESSES)

# `>=2.4` becomes `==2.4.*`, and a version of three or more numbers exactly that one.
$(OLDEST)/.ready: extra-requirements.txt
	test -x $(OLDEST)/bin/python || $(OLDEST_PYTHON) -m venv $(OLDEST)
	sed -n 's/>=\([0-9]*\.[0-9]*\);.*/==\1.*/p; t; s/>=\([0-9.]*\);.*/==\1/p' $< > $(OLDEST)/lowest.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check \
		-r $(OLDEST)/lowest.txt pytest pytest-xdist hypothesis
	touch $@

test-oldest: $(OLDEST)/.ready
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n $(TEST_PROCESSES)

lint: $(READY)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: $(READY)
	$(PYTHON) -m mypy .

check: lint types test

format: $(READY)
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

# Tables of settings, flags, return codes and tests' cases in docs/, configs/default.yaml, templates.
generate: $(READY)
	$(PYTHON) -m tools.generate

site: $(READY)
	$(PYTHON) -m tools.build_site

bench: $(READY)
	$(PYTHON) -m bench $(BENCH)

clean:
	rm -rf build runs .pytest_cache .mypy_cache .ruff_cache
