# `make demo` and `make test` on a fresh machine: Python 3.11+, git and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/demo
JOBS ?= 2
SEEDS ?= 50
TRAININGS ?= 10
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test lint types pytest docs chaos bench clean

demo: $(VENV)/.installed
	$(BIN)/ray-st demo --out $(OUT)

test: lint types pytest

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.tested
	$(BIN)/mypy ray_st jobs

pytest: $(VENV)/.tested
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder $(ARGS)

# The pages of docs/ as a site in build/site; `make test` holds them to the same strictness.
docs: $(VENV)/.tested
	$(BIN)/mkdocs build --strict

# Fifty labellings and ten trainings, each hit at another moment; an hour or so. ARGS="-k [7]": some.
chaos: $(VENV)/.tested
	CHAOS_SEEDS=$(SEEDS) CHAOS_TRAININGS=$(TRAININGS) $(BIN)/python -m pytest -s tests/test_chaos.py tests/test_train_chaos.py $(ARGS)

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/labeling.py
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training.py --workers 2
	$(BIN)/python benchmarks/restart.py
	$(BIN)/python benchmarks/live.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/augment.py
	$(BIN)/python benchmarks/detector.py
	$(BIN)/python benchmarks/policy.py
	$(BIN)/python benchmarks/export.py

# A stamp stands for "installed under these constraints": a second `make demo` installs nothing.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/.tested: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable ".[test]"
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
