# Set-up is part of every target: the first one on a fresh machine makes .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: bench test lint clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

bench: $(READY)  ## train and judge codes of handwritten digits: about three minutes
	$(BIN)/python -m benchmarks run --suite quick

test: $(READY)
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## keeps .venv; remove it by hand to start from nothing
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist results
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
