# make run    start the daemon with the example apps      PORT=9615 CONFIG=examples/ecosystem.yaml ARGS="--www DIR"
# make test   run the tests                               TESTS=tests.core  OLDEST=1 with the oldest packages admitted
# make lint   ruff and mypy
# make torture  kill the daemon and its keeper under load  ARGS="--help"
# make bench  measure, beside peers that it installs      QUICK=1 ARGS="--help"
# make clean  remove what these made

PYTHON ?= python3
PORT := 9615
CONFIG := examples/ecosystem.yaml
TESTS := tests
ARGS :=

VENV := .venv$(if $(OLDEST),-oldest)
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --quiet --disable-pip-version-check install $(if $(OLDEST),--constraint $(VENV)/oldest.txt)

.DELETE_ON_ERROR:
.PHONY: help run test torture lint bench tools clean

help:
	@sed -n '1,/^$$/s/^# //p' Makefile

run: $(VENV)/installed
	@echo 'The dashboard:  http://localhost:$(PORT)/'
	@echo 'The WebSocket:  ws://localhost:$(PORT)/ws'
	@echo 'Ctrl-C stops the daemon and its processes.'
	@exec $(BIN)/twistd -n pmdaemon --port $(PORT) --config $(CONFIG) $(ARGS)

test: $(VENV)/installed-test tools
	@$(BIN)/python -m twisted.trial --temp-directory=$(VENV)/trial $(TESTS)

lint: $(VENV)/installed-lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo 'not formatted: $(BIN)/ruff format .' >&2; exit 1; }
	@$(BIN)/mypy

torture: $(VENV)/installed-test
	@$(BIN)/python -m torture $(ARGS)

bench: $(VENV)/installed-test tools
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
$(VENV)/installed: setup.cfg pyproject.toml | $(BIN)/python $(if $(OLDEST),$(VENV)/oldest.txt)
	@echo 'installing PMDaemon into $(VENV) ...' >&2
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-%: setup.cfg pyproject.toml | $(BIN)/python $(if $(OLDEST),$(VENV)/oldest.txt)
	@echo 'installing what $* needs into $(VENV) ...' >&2
	@$(INSTALL) --editable '.[$*]'
	@touch $@

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
		echo 'cannot find $(PYTHON): install Python 3.11 or later, or say which: make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "cannot use $$($(PYTHON) --version): PMDaemon needs 3.11 or later; say which: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'cannot make $(VENV): Python lacks venv; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# Of each package in setup.cfg the lowest version that it admits.
$(VENV)/oldest.txt: setup.cfg | $(BIN)/python
	@sed -n 's/^    \([A-Za-z0-9-]*\).* >= /\1==/p' setup.cfg >$@

clean:
	@rm -rf .venv .venv-oldest .tools build dist _trial_temp* *.egg-info .mypy_cache .ruff_cache .hypothesis
	@rm -f twistd.pid twistd.log dropin.cache twisted/plugins/dropin.cache
	@find pmdaemon tests twisted benchmarks torture -name __pycache__ -type d -prune -exec rm -rf {} +
