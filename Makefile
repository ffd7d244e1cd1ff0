# Needs Python 3.11, pip and make; everything else comes into .venv.
#   make demo                      the whole loop on real history (USE_CASE=taxi_tip, KEEP=1 leaves it running)
#   make check / make test         fast checks / all tests
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := check

PYTHON ?= $(shell command -v python3.11 || command -v python3)
USE_CASE ?= taxi_tip
KEEP ?=
ONLY ?=
# where it is set, every process that is started would compile all of the project anew
unexport PYTHONDONTWRITEBYTECODE
# threads of OpenMP that spin while they wait make a fit ten times as long where others need the cores
export OMP_WAIT_POLICY ?= PASSIVE
# test processes; each file of tests runs in one of them, see tests/conftest.py
PARALLEL ?= 2
PYTEST = $(BIN)/python -m pytest -q -n $(PARALLEL) --dist loadfile --no-loadscope-reorder
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MLSERVER := .venv-mlserver

.PHONY: install browser check test docs bench demo up down clean

install: $(STAMP)

# torch first: packages below read its version while they are installed
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "There is no python3.11. Install Python 3.11, or run: make install PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "$(PYTHON) is not Python 3.11. Run: make install PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.txt) \
	  $$(grep -E '^(setuptools|wheel)==' requirements.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# MLServer wants other versions of the same packages, so the tests run it from an environment of its own
$(MLSERVER)/.installed: requirements-mlserver.txt
	test -x $(MLSERVER)/bin/python || "$(PYTHON)" -m venv $(MLSERVER)
	$(MLSERVER)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
	  -r requirements-mlserver.txt
	@touch $@

# without the slow tests, and with fewer examples of what Hypothesis draws than `make test`
check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	HYPOTHESIS_PROFILE=quick $(PYTEST) -m "not slow" tests/unit tests/contract

# the pages are tested in a real browser, which PyPI does not have
browser:
	@if [ -z "$${EVERGREEN_CHROMIUM:-}" ] && \
	  ! command -v chromium chromium-browser google-chrome-stable google-chrome > /dev/null; then \
	  command -v apt-get > /dev/null || { echo "There is no Chromium. Install one, or set EVERGREEN_CHROMIUM to its path."; exit 1; }; \
	  as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$as_root apt-get update -qq && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium > /dev/null; \
	fi

test: install browser $(MLSERVER)/.installed
	$(PYTEST)

# the documents as a site, in build/site
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: install
	$(BIN)/python -m bench $(ONLY)

demo: install
	$(BIN)/evergreen demo --use-case $(USE_CASE) $(if $(filter 1 yes true,$(KEEP)),--keep)

up: install
	$(BIN)/evergreen up

down: install
	$(BIN)/evergreen down

# ends the stack first: its processes would otherwise go on without their files
clean:
	@if [ -x $(BIN)/evergreen ]; then $(BIN)/evergreen down; \
	  for home in .evergreen/demo/*/; do [ ! -d "$$home" ] || EVERGREEN_HOME="$$home" $(BIN)/evergreen down; done; fi
	rm -rf $(VENV) $(MLSERVER) .evergreen .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache \
	  build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
