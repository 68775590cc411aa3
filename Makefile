# Every target sets up what it needs; see README.md.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
XDIST  ?= 2

.PHONY: setup serve demo test lint fmt docs torture test-deps bench-deps bench profile

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

docs: .venv-docs/.ready ## the site, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=src:docs/generator .venv-docs/bin/mkdocs build --strict

.venv-docs/.ready: requirements/docs.txt
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

test-deps:              ## system packages that only some tests and measures want
	./tests/install-deps

bench-deps: setup test-deps ## the peers that the measures compare with, into bench/out/
	test -x bench/out/peers/bin/python || $(BIN)/python -m venv bench/out/peers
	bench/out/peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	mkdir -p bench/out/haraka && cp bench/peers/package.json bench/out/haraka/
	@command -v npm >/dev/null || echo "npm is missing: Haraka is left out"
	! command -v npm >/dev/null || (cd bench/out/haraka && \
		npm install --omit=optional --no-package-lock --no-audit --no-fund --loglevel=error >/dev/null)

bench: setup            ## every measure beside its peers: a table, a picture, and goals met or missed
	$(BIN)/python bench/run.py $(ARGS)

profile: setup          ## a flame graph of each hot path, into bench/out/
	$(BIN)/python bench/flames.py $(ARGS)
