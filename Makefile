# Set-up is part of every target: the first one on a fresh machine makes .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
VISION := .venv/.vision
DOCS := .venv/.docs

.PHONY: bench leaderboard test test-vision lint clean docs check-docs dist test-dist
.DEFAULT_GOAL := test

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

bench: $(READY)  ## train and judge codes of handwritten digits: about three minutes
	$(BIN)/python -m benchmarks run --suite quick
	$(BIN)/python -m benchmarks run --suite quick-unseen

leaderboard: $(READY)  ## one page of all published and all own results
	$(BIN)/python -m benchmarks leaderboard

test: $(READY)
	# Two processes of one thread each: each has half of the files, and helps the slower one
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Beside the environment, not in it: with a CPU-only torch, the wheel from PyPI breaks
# `import lightning`. The trunks need none of its compiled operators.
$(VISION): $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target .venv/vision -c constraints.txt torchvision
	touch $@

test-vision: $(VISION)  ## image data sets and trunks, which need torchvision
	PYTHONPATH=.venv/vision OMP_NUM_THREADS=2 $(BIN)/python -m pytest \
		tests/benchmarks/test_trunks.py tests/benchmarks/test_image_training.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	touch $@

docs: $(DOCS)  ## the site, offline, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check-docs: $(DOCS)  ## links, spelling and length of sentences
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/test_links.py tests/test_prose.py

dist: $(READY)  ## wheel and source distribution, in dist
	rm -rf dist
	$(BIN)/python -m build --quiet

test-dist: dist  ## smoke test of both in empty environments (TORCH, PML: versions)
	$(PYTHON) tests/smoke/install.py dist $(if $(TORCH),--torch $(TORCH)) $(if $(PML),--pml $(PML))

clean:  ## keeps .venv; remove it by hand to start from nothing
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist results
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
