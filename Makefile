# Two commands matter: `make demo` and `make test`. Everything they need is set up on the way.

# The first Python on this machine that is new enough; or say which: make PYTHON=/path/to/python3
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in $(CANDIDATES); do $$name -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$name && break; done)
ENVIRONMENT_PYTHON := .venv/bin/python
USUAL_TESTS := -m "not slow and not browser and not docker" --numprocesses=auto --maxprocesses=4 --dist=loadfile

.DEFAULT_GOAL := help
.PHONY: help setup python demo demo-docker up down test test-browser test-slow test-docker images check docs bench lock clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p; s/^\(bench-\)%:.*## /\1<row>|/p' Makefile | awk -F'|' '{ printf "  make %-13s %s\n", $$1, $$2 }'

setup: python ## Create .venv with the pinned packages (every command below does so when it is needed)
	@$(PYTHON) -m local.bootstrap

demo: setup ## Start the whole system, drive its main jobs through the gateway, show each step, stop everything
	@$(ENVIRONMENT_PYTHON) -m local demo

demo-docker: setup ## The same in containers: docker-compose.yml with the sandbox; needs a Docker engine with Compose
	@$(ENVIRONMENT_PYTHON) -m local demo-docker

up: setup ## Start the whole system and keep it running until Ctrl-C (DETACH=1: return when it is healthy)
	@$(ENVIRONMENT_PYTHON) -m local up $(if $(DETACH),--detach)

down: setup ## Stop what `make up` started
	@$(ENVIRONMENT_PYTHON) -m local down

test: setup ## Run the test suite (ARGS="tests/auth -k reset" runs a part)
	@$(ENVIRONMENT_PYTHON) -m local servers
	@$(ENVIRONMENT_PYTHON) -m local browser
	@$(ENVIRONMENT_PYTHON) -m pytest $(USUAL_TESTS) $(ARGS)

test-browser: setup ## Run the tests of the console in a real browser: every page, both languages, light and dark
	@$(ENVIRONMENT_PYTHON) -m local servers
	@$(ENVIRONMENT_PYTHON) -m local browser
	@$(ENVIRONMENT_PYTHON) -m pytest $(or $(ARGS),tests/browser)

test-slow: setup ## Run the tests that take long: large volumes, timing statistics
	@$(ENVIRONMENT_PYTHON) -m pytest -m "slow and not docker" $(ARGS)

# 5 is pytest's exit code when ARGS choose none of these tests.
test-docker: setup ## Run the suite with its servers in containers, then the tests of the images and of docker-compose.yml
	@REQUIRE_DOCKER=1 $(ENVIRONMENT_PYTHON) -m local servers
	@$(ENVIRONMENT_PYTHON) -m local browser
	@REQUIRE_DOCKER=1 $(ENVIRONMENT_PYTHON) -m pytest $(USUAL_TESTS) $(ARGS) || [ $$? -eq 5 ]
	@REQUIRE_DOCKER=1 $(ENVIRONMENT_PYTHON) -m pytest -m docker $(ARGS) || [ $$? -eq 5 ]

images: setup ## Build the images of docker-compose.yml and tell how large they are
	@$(ENVIRONMENT_PYTHON) -m local images

check: setup ## Check format, lint, types, import rules and that the requirement files are current
	@$(ENVIRONMENT_PYTHON) -m local.check

docs: setup ## Write docs/events.md and docs/asyncapi.yaml anew from the code
	@$(ENVIRONMENT_PYTHON) -m local.catalog

bench: python ## Measure us and our peers in turn on the same servers, and write benchmarks/results.json
	@$(PYTHON) -m local.bootstrap bench
	@.venv-bench/bin/python -m benchmarks

bench-%: python ## Measure one row alone
	@$(PYTHON) -m local.bootstrap bench
	@.venv-bench/bin/python -m benchmarks $*

lock: setup ## Pin all packages anew in requirements/
	@$(ENVIRONMENT_PYTHON) -m local.lock

clean: python ## Stop whatever this checkout has running, and remove .run and .venv
	@$(PYTHON) -m local.clean

python:
	@command -v "$(PYTHON)" >/dev/null || { echo "Partner Hub needs Python 3.11 or newer, and found none: install it, or say where it is with make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "Partner Hub needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1): choose another with make PYTHON=/path/to/python3" >&2; exit 1; }
