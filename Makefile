# Everything a fresh machine with Python 3.11 or newer needs:
#   make demo    see it work: a real engine, the proxy, real SDK clients
#   make test    every test but the nightly ones
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help setup clients demo run test nightly coverage check bench clean
.DEFAULT_GOAL := help

help:  ## Show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "askonce needs Python 3.11 or newer; try: make PYTHON=python3.12 setup"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,check]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo]' \
	  || echo "the llama.cpp engine cannot be had here: the demo uses the scripted provider, the engine's tests are skipped"
	@$(BIN)/askonce model fetch || echo "the sentence model cannot be had here: answers of similar questions stay off"
	@touch $(READY)

setup: $(READY)  ## Create .venv with everything in it

clients: $(READY)  ## Install the clients of the examples into .cache/clients, for `make nightly`
	$(PYTHON) -m venv .cache/clients/frameworks
	.cache/clients/frameworks/bin/python -m pip install --quiet --disable-pip-version-check "openai<3" anthropic \
	  langchain-openai llama-index-llms-openai llama-index-embeddings-openai litellm instructor "pydantic-ai-slim[openai]"
	mkdir -p .cache/clients/node
	npm install --prefix .cache/clients/node --no-audit --no-fund --ignore-scripts openai @anthropic-ai/sdk ai @ai-sdk/openai

demo: $(READY)  ## Engine, proxy and SDK clients in one go; ends with /stats
	$(BIN)/python -m demo

run: $(READY)  ## Run the proxy on its defaults (ARGS="--port 9000 --upstream URL" for others)
	$(BIN)/askonce serve $(ARGS)

test: $(READY)  ## Run the tests
	$(BIN)/python -m pytest -m "not nightly" $(ARGS)

nightly: $(READY)  ## Run the tests that take minutes, too
	$(BIN)/python -m pytest $(ARGS)

coverage: $(READY)  ## Run the tests and show which lines and branches none of them takes
	$(BIN)/python -m pytest -m "not nightly" --cov --cov-report=term --cov-fail-under=95 $(ARGS)

check: $(READY)  ## Lint, types, import contracts, Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

bench: $(READY)  ## Measure against nginx (install nginx for the comparison)
	$(BIN)/python -m bench $(ARGS)

clean:  ## Remove what the above made
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov build dist *.egg-info
