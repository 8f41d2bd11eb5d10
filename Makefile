# Everything happens inside the checkout: .venv (Python and node), .stamps (what is done, and logs), cloud/console/node_modules.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
S := .stamps
# Setting up is for one make at a time, which looks at what is done only when its turn has come; what it says goes to
# standard error, so that standard output is the demo's.
ALONE = $(PYTHON) scripts/alone.py $(MAKE) -s --no-print-directory
STAGE := $(PYTHON) scripts/stage.py
# An installation that was killed can leave half a package that pip takes for whole: the guard then makes .venv anew.
GUARD := $(S)/unfinished
GUARDED := $(STAGE) --guard $(GUARD)
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
LOCKED := --require-hashes --only-binary :all: -r
BOOTSTRAP := $(wildcard scripts/bootstrap/*)
CONSOLE := cloud/tocsin_cloud/console
PEERS := node_modbus node_sparkplug
CONSOLE_SOURCES := $(shell find cloud/console -name node_modules -prune -o -name dist -prune -o -type f -print 2>/dev/null)

# A virtual environment holds absolute paths: it is made anew when the checkout moved or the system's python went away.
VENV_STALE := $(shell test ! -e $(GUARD) -a -e $(S)/venv -a -x $(BIN)/python && grep -qsF "$(CURDIR)/.venv" $(BIN)/activate || echo stale)

.PHONY: help setup setup-dev console demo test check format lock clean FORCE

help: ## list the targets (default)
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' $(firstword $(MAKEFILE_LIST))

setup: ## make .venv with tocsin and its locked libraries, and build the console page
	@+$(ALONE) $(S)/tocsin $(S)/console >&2

setup-dev: ## the same without the page, with the test and check tools
	@+$(ALONE) $(S)/peers $(S)/node_modules $(PEERS:%=$(S)/%) >&2

console: ## build the console page alone
	@+$(ALONE) $(S)/console >&2

demo: setup ## run the simulated plant, gateways, cloud side and page (ARGS="--headless --seconds 90")
	@exec $(BIN)/tocsin demo $(ARGS)

# Four on two cores: the two with the whole systems and the demo (tests/conftest.py) wait for most of their time.
# Hundreds of processes are started: each would compile all of ours that it imports where Python may not keep that; what
# is in .venv pip has compiled, where it lies. And where numpy solves on two threads, each spins for what the other does
# not get on a processor that is taken.
TESTED := PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX= OPENBLAS_NUM_THREADS=1
test: setup-dev console ## run every test on four workers (ARGS="-k words" for some)
	$(TESTED) $(BIN)/python -m pytest -n 4 --no-loadscope-reorder $(ARGS)

check: setup-dev ## the static checks: ruff, mypy --strict, import contracts, the page's types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/npm run check

format: setup-dev ## let ruff format and repair what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lock: setup-dev ## resolve pyproject.toml into constraints/ (ARGS=--upgrade for the newest versions)
	$(BIN)/python scripts/lock.py $(ARGS)

clean: ## remove all that set-up and checks made (var/, the demo's history, stays)
	rm -rf .venv $(S) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist \
	  cloud/console/node_modules cloud/console/dist $(CONSOLE) $(PEERS:%=tests/support/%/node_modules)

FORCE:

$(S)/venv: $(BOOTSTRAP) $(if $(VENV_STALE),FORCE)
	@$(GUARDED) venv "Making the virtual environment" $(PYTHON) scripts/bootstrap/make_venv.py $(if $(VENV_STALE),--fresh)
	@touch $@

$(S)/runtime: constraints/runtime.txt $(S)/venv
	@$(GUARDED) runtime "Installing the locked libraries" $(PIP_INSTALL) $(LOCKED) $<
	@touch $@

$(S)/tocsin: pyproject.toml $(S)/runtime
	@$(GUARDED) tocsin "Installing tocsin" $(PIP_INSTALL) \
	  --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(S)/dev: constraints/dev.txt $(S)/tocsin
	@$(GUARDED) dev "Installing the test and check tools" $(PIP_INSTALL) $(LOCKED) $<
	@touch $@

# Its metadata ask for a newer Python than it needs.
$(S)/peers: constraints/peers.txt $(S)/dev
	@$(GUARDED) peers "Installing the peer for the tests that pip would not" $(PIP_INSTALL) \
	  --no-deps --ignore-requires-python $(LOCKED) $<
	@touch $@

$(S)/node_modules: cloud/console/package.json cloud/console/package-lock.json $(S)/runtime \
  $(if $(wildcard cloud/console/node_modules/.package-lock.json),,FORCE)
	@$(STAGE) node_modules "Installing the console's libraries" scripts/npm ci
	@touch $@

$(PEERS:%=$(S)/%): $(S)/%: tests/support/%/package.json tests/support/%/package-lock.json $(S)/runtime
	@$(STAGE) $* "Installing the libraries of tests/support/$*" \
	  scripts/npm --prefix ../../tests/support/$* ci --ignore-scripts --omit=optional
	@touch $@

# The copy appears at once and whole, so that an API that is running never serves half a page.
$(S)/console: $(CONSOLE_SOURCES) $(S)/node_modules $(if $(wildcard $(CONSOLE)/index.html),,FORCE)
	@$(STAGE) console "Building the console page" scripts/npm run build
	@rm -rf $(CONSOLE).new && cp -R cloud/console/dist $(CONSOLE).new && rm -rf $(CONSOLE) && mv $(CONSOLE).new $(CONSOLE)
	@touch $@

cloud/console/package.json cloud/console/package-lock.json:
	@echo "error: $@ is missing, so the console page cannot be built" >&2; exit 1
