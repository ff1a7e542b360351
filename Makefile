# `make run` starts Ostiary on this machine; `make test` tries all of it. Both set up what they need by themselves:
# Debian packages (deploy/setup), a virtual environment in .venv, and the Python packages of the lock files.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

SETUP := deploy/setup
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
RUNTIME := $(VENV)/.runtime-installed
DEVELOPMENT := $(VENV)/.development-installed

.PHONY: help run test test-fast test-kernel check demo bench lock clean test-packages kernel-lab

help:
	@echo "make run         start gateway, portal and worker; Ctrl-C stops them (root; state in ./var)"
	@echo "make demo        tell the whole story with real clients in network namespaces (root)"
	@echo "make test        all tests, those with real clients too (root)"
	@echo "make test-fast   unit tests only"
	@echo "make test-kernel those on a kernel with ESP, which is built first where it is missing (root)"
	@echo "make check       format, lint, types, import rules"
	@echo "make bench       measure against strongSwan and FreeRADIUS (root)"
	@echo "make lock        write the lock files anew"
	@echo "make clean       remove the environment and all caches, not the state in ./var"

# exec: the process that make waits for is the supervisor itself, which gets the signals and ends in its own time.
run: export OSTIARY_STATE_DIR ?= $(CURDIR)/var
run: $(RUNTIME)
	@exec $(BIN)/ostiary up

test: $(DEVELOPMENT) test-packages kernel-lab
	$(BIN)/python -m pytest

test-fast: $(DEVELOPMENT)
	$(BIN)/python -m pytest tests/unit -m "not slow" --numprocesses auto

test-kernel: $(DEVELOPMENT) test-packages kernel-lab
	$(BIN)/python -m pytest tests/kernel

check: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

demo: $(DEVELOPMENT) test-packages
	@exec $(BIN)/python -m tests.demo

bench: $(DEVELOPMENT) test-packages
	@exec $(BIN)/python -m tests.bench

test-packages:
	@$(SETUP)/install-packages $(SETUP)/test.packages

kernel-lab: $(DEVELOPMENT)
	@$(SETUP)/install-packages $(SETUP)/kernel.packages
	@$(BIN)/python -m tests.kernel.build > /dev/null
	@$(BIN)/python -m tests.lab.libreswan_package > /dev/null

$(BIN)/python:
	@$(SETUP)/install-packages $(SETUP)/runtime.packages
	@$(SETUP)/make-venv $(VENV)

$(RUNTIME): requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing Ostiary into $(VENV)"
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEVELOPMENT): requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "Installing Ostiary and its development tools into $(VENV)"
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(RUNTIME)

COMPILE := $(VENV)-lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links

lock:
	$(SETUP)/make-venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip --quiet --disable-pip-version-check install pip-tools==7.6.2
	$(COMPILE) --extra build --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra build --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

clean:
	rm -rf $(VENV) $(VENV)-lock build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
