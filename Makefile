# make train   sets up .venv from the lock file, then trains on the synthetic log (quickstart)
# make test    sets up the same, then runs the test suite
# make test-thorough   the same with all hostile input, kills and trainings: before a release
# make check   lint, format, types, layering
# make venv    the set-up alone
# make docs    the documentation as a site, in site/; warnings are errors
# make reference   writes docs/reference from the code
# make mutations   breaks the code on purpose, some forty times: a test has to fail each time

PYTHON ?= python3
BIN := .venv/bin
# Tests use the processes that pytest-xdist finds cores for; each keeps to CPU. The tests of a file
# stay together, in order: they share what is trained for them, and what is compiled.
JOBS ?= auto
PYTEST := $(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder

.PHONY: venv train test test-thorough check docs reference mutations

venv: .venv/installed

.venv/installed: requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "hiertcn_jax needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

train: venv
	$(BIN)/python -m experiments.train --flagfile=experiments/flagfiles/quickstart.flags

test: venv
	$(PYTEST)

test-thorough: venv
	$(PYTEST) --thorough

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layering.py

docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

reference: venv
	$(BIN)/python -m tests.reference

mutations: venv
	$(BIN)/python -m tests.mutations
