# Every target sets up what it needs; see README.md.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
XDIST  ?= 2

.PHONY: setup serve demo test lint fmt torture test-deps bench-deps bench-api bench-smtp bench-bulk bench-postgres

setup: $(READY)

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Readdress needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

serve: setup            ## the service, in development mode, on embedded SQLite
	$(BIN)/readdress serve --dev $(ARGS)

demo: setup             ## the story of an alias, with boto3 and SMTP
	$(BIN)/python demo/alias_story.py

test: setup             ## the whole suite but for the long torture runs
	$(BIN)/python -m pytest -n $(XDIST) --dist worksteal -m "not torture" $(ARGS)

torture: setup          ## the long crash and load runs
	$(BIN)/python -m pytest -m torture $(ARGS)

lint: setup             ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-deps:              ## system packages that only some tests want
	./tests/install-deps

bench-deps: setup       ## the peers that the measures compare with
	$(BIN)/python -m venv bench/out/peers
	bench/out/peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt

bench-api: setup
	$(BIN)/python bench/api.py $(ARGS)

bench-smtp: setup
	$(BIN)/python bench/smtp.py $(ARGS)

bench-bulk: setup       ## rows a second of an import
	$(BIN)/python bench/bulk.py $(ARGS)

bench-postgres: setup
	$(BIN)/python bench/postgres.py $(ARGS)
