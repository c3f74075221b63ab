# make run    start the daemon with the example apps      PORT=9615 CONFIG=examples/ecosystem.yaml ARGS="--www DIR"
# make test   run the tests                               TESTS=tests.core
# make lint   ruff and mypy
# make torture  kill the daemon and its keeper under load  ARGS="--help"
# make bench  measure, beside peers that it installs      QUICK=1 ARGS="--help"
# make clean  remove what these made

PYTHON ?= python3
PORT := 9615
CONFIG := examples/ecosystem.yaml
TESTS := tests
ARGS :=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: help run test torture lint bench tools clean

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

run: .venv/installed
	@echo 'The dashboard:  http://localhost:$(PORT)/'
	@echo 'The WebSocket:  ws://localhost:$(PORT)/ws'
	@echo 'Ctrl-C stops the daemon and its processes.'
	@exec $(BIN)/twistd -n pmdaemon --port $(PORT) --config $(CONFIG) $(ARGS)

test: .venv/installed-test tools
	@$(BIN)/python -m twisted.trial --temp-directory=.venv/trial $(TESTS)

lint: .venv/installed-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo 'not formatted: $(BIN)/ruff format .' >&2; exit 1; }
	@$(BIN)/mypy

torture: .venv/installed-test
	@$(BIN)/python -m torture $(ARGS)

bench: .venv/installed-test tools
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

# What some tests need and no Python package brings; without npm these are skipped, and say so.
tools: .tools/installed
.tools/installed:
	@if command -v npm >/dev/null; then \
		mkdir -p .tools && \
		npm install --prefix .tools --no-audit --no-fund --loglevel=error ws@8 >/dev/null && \
		touch $@; \
	else echo 'npm is not installed: the test of the Node.js example is skipped' >&2; fi

# Installed anew only when setup.cfg has changed. The checkout itself is used, so code takes effect at once.
.venv/installed: setup.cfg pyproject.toml | .venv/bin/python
	@echo 'installing PMDaemon into .venv ...' >&2
	@$(PIP) install --editable .
	@touch $@

.venv/installed-%: setup.cfg pyproject.toml | .venv/bin/python
	@echo 'installing what $* needs into .venv ...' >&2
	@$(PIP) install --editable '.[$*]'
	@touch $@

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo 'cannot find $(PYTHON): install Python 3.11 or later, or say which: make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "cannot use $$($(PYTHON) --version): PMDaemon needs 3.11 or later; say which: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'cannot make .venv: Python lacks venv; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv .venv

clean:
	@rm -rf .venv .tools build dist _trial_temp* *.egg-info .mypy_cache .ruff_cache .hypothesis
	@rm -f twistd.pid twistd.log dropin.cache twisted/plugins/dropin.cache
	@find pmdaemon tests twisted benchmarks torture -name __pycache__ -type d -prune -exec rm -rf {} +
