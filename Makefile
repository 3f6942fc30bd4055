# `make` sets everything up and runs the pipeline; `make test` sets up and tests.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: all repro test lint bench experiments
all: repro

repro: .venv/installed
	dvc repro

test: .venv/installed
	pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/installed
	ruff check
	ruff format --check
	mypy

bench: .venv/installed
	python -m bench.prepare
	python -m bench.training

# What experiments changed and what came of it; `dvc exp show` alone shows every parameter and file
# too. DROP leaves out more columns: make experiments DROP='semi|transfer'.
experiments: .venv/installed
	@dvc exp show --only-changed --drop 'Created|State|Executor|params.yaml|.*/$(if $(DROP),|.*($(DROP)))'

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	pip install --quiet --editable '.[test,lint]'
	# what the page of `dvc plots` draws its charts with, where there is no network
	python -c 'import vl_convert; print(vl_convert.javascript_bundle())' > .venv/vega.js
	touch $@
