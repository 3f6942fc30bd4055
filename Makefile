# `make` sets everything up and runs the pipeline; `make test` sets up and tests.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: all repro test lint bench
all: repro

repro: .venv/installed
	dvc repro

test: .venv/installed
	pytest

lint: .venv/installed
	ruff check
	ruff format --check
	mypy

bench: .venv/installed
	python -m tests.bench.prepare

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	pip install --quiet --editable '.[test,lint]'
	touch $@
