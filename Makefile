# `make` sets everything up and runs the pipeline; `make help` lists the targets.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: all repro test test-lowest fuzz lint bench wheels constraints experiments help
all: repro

repro: .venv/installed ## set up .venv and run every stage whose inputs have changed (`make` does this)
	dvc repro

test: .venv/with-test ## run the tests
	pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

fuzz: .venv/with-test ## try damaged files on the readers for an hour, instead of seconds as `make test` does
	pytest tests/test_fuzz.py --hypothesis-profile=fuzz

lint: .venv/with-lint ## check style and types
	ruff check
	ruff format --check
	mypy

bench: .venv/installed ## measure preparation and a training step; RELEASED=<checkout>, AGAINST=<checkout> compare
	python -m bench prepare step

# The versions are those of .venv, but for another Python: with PyTorch's own the machine has the rest.
WHEELS = annotated-types donfig google-crc32c isal numcodecs pydantic pydantic-core ruamel.yaml torchdata typing-inspection zarr
PLATFORM = --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64
wheels: .venv/installed ## fetch into .wheels what is needed on a machine that has PyTorch and no network
	pip freeze | grep -iE "^($$(echo $(WHEELS) | sed 's/ /|/g; s/-/[-_]/g'))==" > .venv/wheels.txt
	pip download --quiet --no-deps --only-binary=:all: $(PLATFORM) --dest .wheels --requirement .venv/wheels.txt

# `dvc exp show` alone shows every parameter and file, too.
# The columns of KEEP are matched from their beginning, so that `linear` is not stages/linear.py, too.
experiments: .venv/installed ## list what experiments changed and what came of it; DROP='semi|transfer' leaves columns out, KEEP='linear|seed' all others
	@dvc exp show --only-changed $(if $(KEEP),--drop '.*' --keep 'Experiment|$(KEEP)',--drop 'Created|State|Executor|params.yaml|.*/$(if $(DROP),|.*($(DROP)))')

# The lowest versions are read off pyproject.toml, which has one requirement a line.
test-lowest: export PATH := $(CURDIR)/.venv-lowest/bin:$(PATH)
test-lowest: ## run the tests with the lowest versions that pyproject.toml allows; TORCH=2.13.0 takes another torch
	$(PYTHON) -m venv .venv-lowest
	sed -nE 's/^ +"([a-zA-Z0-9.-]+)>=([0-9.]+).*/\1==\2/p' pyproject.toml $(if $(TORCH),| sed 's/^torch==.*/torch==$(TORCH)/') > .venv-lowest/lowest.txt
	pip install --quiet --editable '.[test]' --constraint .venv-lowest/lowest.txt
	pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(TESTS)

# torch is the one that made the results: its version is in the notes of weights. What it needs of CUDA it fixes itself.
constraints: export PATH := $(CURDIR)/.venv-newest/bin:$(PATH)
constraints: ## write constraints/<Python>.txt, by which `make` installs: the newest versions that pyproject.toml allows
	$(PYTHON) -m venv --clear .venv-newest
	pip install --quiet --editable '.[test,lint]' torch==$(or $(TORCH),2.13.0)
	mkdir -p constraints
	pip freeze --exclude-editable | grep -vE '^(cuda|nvidia|triton)' | sed 's/+.*//' > constraints/$(VERSION).txt

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.* ## (.*)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
		printf '%-12s %s\n' "$$target" "$$text"; done

# The versions of the pipeline's own results, or without a file for this Python the newest.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
LOCKED := $(wildcard constraints/$(VERSION).txt)
# Python compiles the modules that are imported, a quarter of those that pip would compile, and keeps them.
unexport PYTHONDONTWRITEBYTECODE
INSTALL = pip install --quiet --no-compile $(LOCKED:%=--constraint %) --editable

# `installed` names the folder of the project: the .venv of one that was moved or copied would run the
# code of the old place.
ifneq ($(shell cat .venv/installed 2>/dev/null),$(CURDIR))
.PHONY: .venv/installed
endif
.venv/installed: pyproject.toml $(LOCKED)
	test "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" || rm -rf .venv
	$(PYTHON) -m venv .venv
	$(INSTALL) '.[plots]'
	# what the page of `dvc plots` draws its charts with, where there is no network
	python -c 'import vl_convert; print(vl_convert.javascript_bundle())' > .venv/vega.js
	echo "$(CURDIR)" > $@

.venv/with-test .venv/with-lint: .venv/with-%: .venv/installed
	$(INSTALL) '.[$*]'
	touch $@
