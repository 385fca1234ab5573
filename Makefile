PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help demo test lint image test-image test-crash-syscalls audit bench test-spreadsheet test-spark lock pin-base

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

$(VENV)/ready: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@

demo: $(VENV)/ready  ## a Management Node on loopback, a collection, the files shown
	@$(BIN)/python -m tests.demo

test: $(VENV)/ready  ## all tests that need no Docker
	@$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/ready  ## formatting, style, types, shell, Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/shellcheck entrypoint.sh
	$(BIN)/hadolint Dockerfile

image:  ## build the image
	docker build -t pexip-history-collector .

test-image: $(VENV)/ready  ## the image on a Docker Engine
	@$(BIN)/python -m pytest tests/image

test-crash-syscalls: $(VENV)/ready  ## kill at every system call (needs strace)
	@$(BIN)/python -m tests.crash_syscalls

test-spreadsheet: $(VENV)/ready  ## what a spreadsheet makes of the files (needs Debian's libreoffice-calc)
	@$(BIN)/python -m pytest tests/spreadsheet

.venv-spark/ready: tests/spark/requirements.txt
	$(PYTHON) -m venv .venv-spark
	.venv-spark/bin/pip install --quiet --disable-pip-version-check -r tests/spark/requirements.txt
	@touch $@

test-spark: $(VENV)/ready .venv-spark/ready  ## the queries of docs/analysing.md in Spark (needs Java)
	@$(BIN)/python -m pytest tests/spark

bench: $(VENV)/ready  ## the collector beside the floor and the plain pipeline
	@$(BIN)/python -m tests.bench

audit: $(VENV)/ready  ## known vulnerabilities in what is pinned
	$(BIN)/pip-audit --require-hashes -r requirements.txt

lock:  ## pin anew what pyproject.toml names (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header -q -o requirements.txt
	uv pip compile pyproject.toml --group dev -c requirements.txt --universal --python-version 3.11 --generate-hashes --no-header -q -o requirements-dev.txt

BASE = python:3.13-slim-trixie
pin-base:  ## write the base image's present digest into Dockerfile and compose.demo.yaml (asks its registry)
	@digest=$$(docker buildx imagetools inspect $(BASE) | sed -n 's/^Digest: *//p') && \
	case $$digest in sha256:*) ;; *) echo "Its registry told no digest of $(BASE)." >&2; exit 1 ;; esac && \
	sed -i -E "s|^( *FROM )$(BASE)(@sha256:[0-9a-f]+)?|\1$(BASE)@$$digest|" Dockerfile compose.demo.yaml && \
	echo "$(BASE)@$$digest"
