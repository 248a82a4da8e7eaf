# Two commands on a machine with Python >= 3.11 and make:
#   make score   sets up .venv (no torch) and scores examples/cohort into risks.parquet
#   make test    sets up .venv-dev (with torch) and runs ruff, mypy and pytest, saying which
# Both environments are pinned by requirements/dev.txt.  `make score CONSTRAINTS=` installs the newest releases.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)
VENV ?= .venv
DEV_VENV ?= .venv-dev
RELEASE_VENV ?= .venv-release
CONSTRAINTS ?= requirements/dev.txt

PIP_INSTALL = -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
COHORT ?= examples/cohort
OUT ?= risks.parquet

.DEFAULT_GOAL := help
.PHONY: help score test lint types unit faults fuzz bench docs format pins locks release clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 10

# Exit status 3 says: the table is written, and some of its rows are refused or failed.  The example cohort holds a
# truncated file and a radiograph that is no knee so that the summary shows both, hence 3 is this target's success.
score: $(VENV)/.kneerisk  ## set up and score examples/cohort into risks.parquet
	@status=0; $(VENV)/bin/kneerisk score $(COHORT) --id-from folder --out $(OUT) --overwrite $(FLAGS) || status=$$?; \
	if [ $$status -ne 0 ] && [ $$status -ne 3 ]; then exit $$status; fi

test: lint types unit  ## set up and run ruff, mypy and pytest
	@echo "All checks passed."

lint: $(DEV_VENV)/.kneerisk
	@echo "Step 1 of 3: style (ruff), seconds ..."
	@$(DEV_VENV)/bin/ruff check .
	@$(DEV_VENV)/bin/ruff format --check .

types: $(DEV_VENV)/.kneerisk
	@echo "Step 2 of 3: types (mypy), a minute the first time ..."
	@$(DEV_VENV)/bin/mypy

# A file's tests stay together, for they share what is made once; long files go first. Threads of torch that want one core
# wait for each other at every step, hence one to a process.
SIDE_BY_SIDE = -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0
# pytest's exit status where the flags leave no test, as one of the two calls will with PYTEST_FLAGS=tests/cli/test_cli.py.
NO_TESTS = 5

unit: $(DEV_VENV)/.kneerisk
	@echo "Step 3 of 3: tests (pytest), minutes; a file to each core, a dot for each test ..."
	@OMP_NUM_THREADS=1 $(DEV_VENV)/bin/pytest $(SIDE_BY_SIDE) -m "not alone" $(PYTEST_FLAGS) || test $$? -eq $(NO_TESTS)
	@echo "... and the tests that run beside no others (tests/conftest.py says why) ..."
	@$(DEV_VENV)/bin/pytest -m alone $(PYTEST_FLAGS) || test $$? -eq $(NO_TESTS)

faults: $(DEV_VENV)/.kneerisk  ## kill, fill and tear runs in hundreds of ways (FAULTS=70: of each kind, some minutes)
	KNEERISK_FAULTS=$(or $(FAULTS),70) $(DEV_VENV)/bin/pytest tests/faults

fuzz: $(DEV_VENV)/.kneerisk  ## mutated files of every kind through the reader (MUTANTS=50000, half an hour)
	$(DEV_VENV)/bin/python benchmarks/fuzz.py --mutants $(or $(MUTANTS),50000) $(FUZZ_FLAGS)

bench: $(DEV_VENV)/.kneerisk  ## speed and memory of scoring on this machine (BENCH_FLAGS=--quick for two minutes)
	$(DEV_VENV)/bin/python benchmarks/bench.py $(BENCH_FLAGS)

docs: $(DEV_VENV)/.kneerisk  ## write docs/table.md from the code's dictionary of columns
	$(DEV_VENV)/bin/python docs/write_table.py

format: $(DEV_VENV)/.kneerisk  ## rewrite the sources in the house's format
	$(DEV_VENV)/bin/ruff check --fix .
	$(DEV_VENV)/bin/ruff format .

# Names and versions alone: pip freeze would add the folder a wheel came from, and torch's build (+cpu) is nothing that
# every machine can be asked for.
pins: $(DEV_VENV)/.kneerisk  ## write requirements/dev.txt from the development environment
	echo '# Versions that development, CI and make score use; written by make pins.' > requirements/dev.txt.new
	$(DEV_VENV)/bin/python -m pip list --format freeze --exclude-editable --exclude pip --exclude setuptools \
		| sed 's/+[a-z0-9.]*$$//' >> requirements/dev.txt.new
	mv requirements/dev.txt.new requirements/dev.txt

# The released set: what scoring, studies and reports need, without torch; for every system, with hashes.
LOCK = $(RELEASE_VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make locks'

locks: $(RELEASE_VENV)/.kneerisk  ## write requirements/release.txt: the released set, pinned with hashes
	$(LOCK) pyproject.toml --extra study --extra report --constraint requirements/dev.txt \
		--output-file requirements/release.txt
	$(LOCK) requirements/release-tools.in --output-file requirements/release-tools.txt

release: $(RELEASE_VENV)/.kneerisk  ## wheel, sdist, list of parts and checksums of the last commit, in dist/
	@.ci/release $(abspath $(RELEASE_VENV))/bin

clean:  ## remove what runs and tools leave behind, but not the environments
	rm -rf risks.parquet* *.kneerisk build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The stamp is touched last, so an interrupted install is taken up again; an edited pyproject.toml or pin renews it.
$(VENV)/.kneerisk: pyproject.toml $(CONSTRAINTS)
	$(require-python)
	@echo "Setting up $(VENV) (no torch; once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python $(PIP_INSTALL) --editable .
	@touch $@

$(RELEASE_VENV)/.kneerisk: requirements/release-tools.txt
	$(require-python)
	@echo "Setting up $(RELEASE_VENV) (tools of a release; once) ..."
	@$(PYTHON) -m venv $(RELEASE_VENV)
	@$(RELEASE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		--requirement requirements/release-tools.txt
	@touch $@

# torch goes first and exactly: pip then keeps it, where a later range would be free to take another build.
$(DEV_VENV)/.kneerisk: pyproject.toml $(CONSTRAINTS)
	$(require-python)
	@echo "Setting up $(DEV_VENV) (with torch; once) ..."
	@$(PYTHON) -m venv $(DEV_VENV)
	@$(DEV_VENV)/bin/python $(PIP_INSTALL) torch==2.13.0
	@$(DEV_VENV)/bin/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@

define require-python
@test -n "$(PYTHON)" || { echo "kneerisk needs Python 3.11 or newer: install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 2; }
endef
