# make venv    the environment for work on xbarc: .venv, an editable install
# make test    style, types, tile IR tests, pytest (about the same as .ci/run)
# make demo    its own environment; the main job on real data
# make fuzz    hostile inputs for MINUTES (60), counts by kind and exit code
# make mutants  changes one operator at a time of what differs from main; MUTANTS=200 SEED=1: a sample of all
# make bench   speed and memory
# make docs    the documentation as a site: build/site
# make notebooks  the tutorial as notebooks: build/notebooks
# make schema  docs/report_json.md, docs/targets.md and docs/pictures, from code
# make clean   remove whatever this file made

PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= 2
MINUTES ?= 60
MUTANTS ?=
SEED ?= 1
BIN := .venv/bin
DEMO := .venv-demo/bin
PIP_FLAGS := --quiet --disable-pip-version-check

.PHONY: venv test style installed types filecheck pytest fuzz mutants bench schema docs notebooks demo clean

venv: .venv/made

.venv/made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "xbarc needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(PIP_FLAGS) -e ".[dev]"
	touch $@

# pytest comes last, so that its summary is the last line.
test: venv
	$(MAKE) --no-print-directory style
	$(MAKE) --no-print-directory types
	$(MAKE) --no-print-directory filecheck
	$(MAKE) --no-print-directory docs
	$(MAKE) --no-print-directory pytest

style: venv installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd build/installed && PYTHONPATH=. $(CURDIR)/$(BIN)/lint-imports --no-logo $(CURDIR)/pyproject.toml

# Neither mypy nor import-linter follows passes/ -> xbarc.passes in an editable install, so they see a
# regular one. build/lib is what an earlier build left; a pass deleted since would come back from there.
installed: venv
	rm -rf build/lib build/installed
	$(BIN)/pip install $(PIP_FLAGS) --no-deps --no-build-isolation --target build/installed .

types: installed
	cd build/installed && $(CURDIR)/$(BIN)/mypy --config-file $(CURDIR)/pyproject.toml \
		--python-executable $(CURDIR)/$(BIN)/python --cache-dir $(CURDIR)/.mypy_cache -p xbarc

filecheck: venv
	$(BIN)/lit --quiet tests/filecheck

pytest: venv
	$(BIN)/pytest -n $(JOBS)

bench: venv
	@set -e; for file in benchmarks/*.py; do $(BIN)/python $$file; done

fuzz: venv
	$(BIN)/python tests/fuzz/fuzz.py $(MINUTES)

mutants: venv
	$(BIN)/python tests/mutants/mutants.py --seed $(SEED) --jobs $(JOBS) $(if $(MUTANTS),--all --count $(MUTANTS))

schema: venv
	$(BIN)/python -m xbarc.artifact.report > docs/report_json.md
	$(BIN)/python -m xbarc.hw.target.reference > docs/targets.md
	$(BIN)/python docs/site/pictures.py docs/pictures

# A warning, as of a link that leads nowhere, is an error.
docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

notebooks: venv
	$(BIN)/python docs/site/notebooks.py build/notebooks

demo: .venv-demo/made
	@$(DEMO)/python examples/digits/demo.py

.venv-demo/made: pyproject.toml $(shell find xbarc passes targets -name '*.py' -o -name '*.toml')
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "xbarc needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv .venv-demo
	rm -rf build/lib
	$(DEMO)/pip install $(PIP_FLAGS) --upgrade ".[demo]"
	touch $@

clean:
	rm -rf .venv .venv-demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
