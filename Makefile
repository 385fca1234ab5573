PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help
.PHONY: help demo test test-long lint image picture test-image test-browser test-crash-syscalls test-power-cut test-mutants simulate troubleshooting audit \
	bench test-spreadsheet test-spark hook release-notes lock pin-base

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

demo: $(VENV)/ready  ## a Management Node on loopback, a collection, its files and report
	@$(BIN)/python -m tests.demo

test: $(VENV)/ready  ## all tests that need no Docker
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-long: $(VENV)/ready  ## the rest of those tests: hostile nodes, power cuts, more crashes, a month of misfortunes
	@$(BIN)/python -m pytest -n auto -m slow

lint: $(VENV)/ready  ## formatting, style, types, shell, Dockerfile, workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/shellcheck entrypoint.sh
	$(BIN)/hadolint Dockerfile
	$(BIN)/actionlint -shellcheck=$(BIN)/shellcheck .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github

image:  ## build the image
	docker build -t pexip-history-collector .

test-image: $(VENV)/ready  ## the image on a Docker Engine
	@$(BIN)/python -m pytest tests/image

test-crash-syscalls: $(VENV)/ready  ## kill at every system call (needs strace)
	@STRIKE=calls $(BIN)/python -m pytest tests/test_crash.py -m "slow or not slow"

simulate: $(VENV)/ready  ## thousands of made-up weeks of misfortunes: make simulate EXAMPLES=3000
	@SIMULATION_EXAMPLES=$(or $(EXAMPLES),1000) $(BIN)/python -m pytest tests/test_simulation.py -m slow

test-power-cut: $(VENV)/ready  ## cut the power after every change of a run (needs strace)
	@POWER_CUTS=all $(BIN)/python -m pytest tests/test_power_cut.py -m slow

test-mutants: $(VENV)/ready  ## break rooms on purpose, in one place at a time: make test-mutants WORDS=ledger/ SAMPLE=50 MINUTES=60
	@$(BIN)/python -m tests.mutants $(WORDS) --sample $(or $(SAMPLE),30) --minutes $(or $(MINUTES),4)

test-spreadsheet: $(VENV)/ready  ## what a spreadsheet makes of the files (needs Debian's libreoffice-calc)
	@$(BIN)/python -m pytest tests/spreadsheet

test-browser: $(VENV)/ready  ## the report in a browser (Debian's chromium; as root it is installed)
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends chromium fonts-noto-core; } || \
	  { echo "Chromium is missing; on Debian: apt-get install chromium" >&2; exit 1; }
	@$(BIN)/python -m pytest tests/browser

picture: $(VENV)/ready  ## docs/report.png again, from the demo's calls (needs chromium)
	@$(BIN)/python -m tests.browser.picture

.venv-spark/ready: tests/spark/requirements.txt
	$(PYTHON) -m venv .venv-spark
	.venv-spark/bin/pip install --quiet --disable-pip-version-check -r tests/spark/requirements.txt
	@touch $@

test-spark: $(VENV)/ready .venv-spark/ready  ## the queries of docs/analysing.md in Spark (needs Java)
	@$(BIN)/python -m pytest tests/spark

bench: $(VENV)/ready  ## the collector beside the floor and the plain pipeline
	@$(BIN)/python -m tests.bench

troubleshooting: $(VENV)/ready  ## docs/troubleshooting.md again, from pexip_history/messages.toml
	@$(BIN)/python -m tests.troubleshooting

audit: $(VENV)/ready  ## known vulnerabilities in what is pinned
	$(BIN)/pip-audit --require-hashes -r requirements.txt

hook:  ## have git run make lint before each commit
	@hook=$$(git rev-parse --git-path hooks/pre-commit); \
	  [ ! -e "$$hook" ] || { echo "$$hook is there already; add 'make lint' to it yourself" >&2; exit 1; }; \
	  mkdir -p "$${hook%/*}" && printf '#!/bin/sh\nexec make lint\n' >"$$hook" && chmod +x "$$hook"

# The version is read from the environment, so that no word of a tag becomes a word of the shell.
release-notes:  ## the changelog's section on VERSION=1.0.0; on the newest version without it
	@awk '/^## / { if (found) exit; found = ENVIRON["VERSION"] "," == $$2 || ENVIRON["VERSION"] == ""; next } found; \
	  END { if (!found) { print "CHANGELOG.md has no section on " ENVIRON["VERSION"] >"/dev/stderr"; exit 1 } }' CHANGELOG.md

lock:  ## pin the newest versions of what pyproject.toml names (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header -q -o requirements.txt
	uv pip compile pyproject.toml --group dev -c requirements.txt --universal --python-version 3.11 --generate-hashes --no-header -q -o requirements-dev.txt

BASE = python:3.13-slim-trixie
pin-base:  ## write the base image's present digest into Dockerfile and compose.demo.yaml (asks its registry)
	@digest=$$(docker buildx imagetools inspect $(BASE) | sed -n 's/^Digest: *//p') && \
	case $$digest in sha256:*) ;; *) echo "Its registry told no digest of $(BASE)." >&2; exit 1 ;; esac && \
	sed -i -E "s|^( *FROM )$(BASE)(@sha256:[0-9a-f]+)?|\1$(BASE)@$$digest|" Dockerfile compose.demo.yaml && \
	echo "$(BASE)@$$digest"
