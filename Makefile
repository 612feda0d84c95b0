# Every target sets up what it needs: a virtual environment from requirements.lock, and the folder for all state.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
STATE := $(CURDIR)/state
run refresh tune dev serve datasets mlflow doctor: export DAGSTER_HOME ?= $(CURDIR)
run refresh tune dev serve datasets mlflow doctor: export MNIST_PIPELINE_STATE ?= $(STATE)

# make run DATASET=mnist DATA_DIR=~/mnist PRESET=accurate CONFIG='{"epochs": 3}'
DATASET ?=
DATA_DIR ?=
PRESET ?= fast
CONFIG ?= {}
# make tune TARGET=breast_cancer/random_forest TRIALS=50 LIMIT_S=600 SEED=1 FIXED='{"trees": 200}'
TARGET ?= digit_classifier
PARTITION ?=
TRIALS ?= 20
LIMIT_S ?= 0
SEED ?= 0
FIXED ?= {}
# make bench-scale IMAGES=10000000 TIMES=3
IMAGES ?= 400000
TIMES ?= 1
WIDTHS ?= 16 32 64
ifneq ($(DATASET),)
export MNIST_DATASET := $(DATASET)
endif
ifneq ($(DATA_DIR),)
export MNIST_DATA_DIR := $(DATA_DIR)
endif

.DEFAULT_GOAL := help
.PHONY: help run refresh tune dev serve datasets mlflow doctor rehearsal test test-all check format bench bench-scale lock clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## From data to predictions, then a summary (DATASET=, DATA_DIR=, PRESET=, CONFIG=).
	@$(BIN)/python -m mnist_pipeline.run --preset '$(PRESET)' --config '$(CONFIG)'

refresh: $(READY) ## Make again what is out of date, by code or by data, and nothing else.
	@$(BIN)/python -m mnist_pipeline.refreshing

tune: $(READY) ## Search better settings for a model, then a table (TARGET=, TRIALS=, LIMIT_S=, SEED=, FIXED=).
	@$(BIN)/python -m mnist_pipeline.tune --target '$(TARGET)' --partition '$(PARTITION)' --trials '$(TRIALS)' \
		--seconds '$(LIMIT_S)' --seed '$(SEED)' --fixed '$(FIXED)'

dev: $(READY) ## The Dagster UI on http://127.0.0.1:3000, with the daemon.
	$(BIN)/dagster dev --host 127.0.0.1 --port 3000

serve: $(READY) ## The deployed model over HTTP, with a page to draw on: http://127.0.0.1:8000.
	@$(BIN)/python -m mnist_pipeline.service

datasets: $(READY) ## The CSV files that tables can be learned from, made known to Dagster, and the command for each.
	@$(BIN)/python -m mnist_pipeline.datasets

mlflow: $(READY) ## Send what runs have recorded, then MLflow's UI on http://127.0.0.1:5000.
	$(BIN)/python -m mnist_pipeline.experiments

doctor: $(READY) ## Whether everything is there that the pipeline needs to run by itself.
	@$(BIN)/python -m mnist_pipeline.doctor

rehearsal: $(READY) ## Production on this machine: S3, Postgres, MLflow, a stand-in for Slack, and nobody's hand.
	@$(BIN)/python tests/rehearsal.py

test: $(READY) ## The quick tests.
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-all: $(READY) ## All tests, the slow ones too.
	$(BIN)/python -m pytest -n 3 --dist worksteal -m ""

check: $(READY) ## Format, lint, types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## Format the code and mend what the linter can.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Measure everything that the README quotes (22 minutes).
	$(BIN)/python -m benchmarks

bench-scale: $(READY) ## Measure batch inference by every engine, Ray's on a cluster of its own (IMAGES=, TIMES=, WIDTHS=).
	$(BIN)/python -m benchmarks.scale --images $(IMAGES) --times $(TIMES) --widths '$(WIDTHS)'

lock: $(READY) ## Resolve requirements.lock anew, for Python 3.10 to 3.13 on Linux and macOS.
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra ray --extra kubernetes --universal --python-version 3.10 \
		--generate-hashes --no-annotate --no-strip-extras --no-emit-index-url --no-header --upgrade -q -o requirements.lock

clean: ## Remove the virtual environment and caches; state/ (models, runs, predictions) stays.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Python 3.10 to 3.13 is needed, $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) (once; downloads some gigabytes, torch being the largest)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@mkdir -p $(STATE)
	@grep -qs '^DAGSTER_HOME=' .env || echo 'DAGSTER_HOME=$${DAGSTER_HOME:-$(CURDIR)}' >> .env
	@grep -qs '^MNIST_PIPELINE_STATE=' .env || echo 'MNIST_PIPELINE_STATE=$${MNIST_PIPELINE_STATE:-$(STATE)}' >> .env
	@touch $@
