# `make` prints this menu. Everything runs in .venv, which `make setup` makes; no target needs an activated environment.
SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo

# The interpreter that makes .venv; `make setup PYTHON=/path/to/python3.12` chooses another.
PYTHON ?= $(shell for python in python3.11 python3; do $$python -c '' 2>/dev/null && echo $$python && break; done)

.PHONY: help setup demo test test-all test-fast check train plan eval compare preprocess merge generate serve build-tasks bench-eval bench-data bench-train bench-train-gpu bench-generate bench-grammar bench-scaling clean

help:  ## this menu
	@echo 'make TARGET [ARGS="..."]        ARGS goes to the command, e.g. ARGS="+experiment=smoke lora.r=4"'
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with the tested versions (again only when they change)
	@:

demo: $(if $(wildcard $(STAMP)),setup,$(DEMO_STAMP))  ## train and evaluate a small real model on real tunes, on the CPU
	@$(BIN)/python -m musician.demo $(ARGS)

test: setup  ## the tests, on the CPU, without network: minutes
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not soak" $(ARGS)

test-all: setup  ## the same, with the complete form of each test that runs on a sample otherwise
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

test-fast: setup  ## the tests that take seconds
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not slow and not soak" $(ARGS)

check: setup  ## lint, format, types, import layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

train: setup  ## train: ARGS="+experiment=sft hardware=8xv100"
	@$(BIN)/python -m musician.train $(ARGS)

plan: setup  ## memory, rate and hours of a training job before it is launched: ARGS="+experiment=sft hardware=8xv100"
	@$(BIN)/python -m musician.plan $(ARGS)

eval: setup  ## MusicTheoryBench and MMLU on one checkpoint: CKPT=outputs/...
	@$(BIN)/python -m musician.eval $(if $(CKPT),model=$(CKPT)) $(ARGS)

compare: setup  ## two runs question by question: ARGS="outputs/eval/RUN_A outputs/eval/RUN_B"
	@$(BIN)/python -m musician.compare $(ARGS)

preprocess: setup  ## text to token ids on disk, ahead of training
	@$(BIN)/python -m musician.preprocess $(ARGS)

merge: setup  ## an adapter into its base model
	@$(BIN)/python -m musician.merge $(if $(CKPT),model=$(CKPT)) $(ARGS)

generate: setup  ## write music with a checkpoint
	@$(BIN)/python -m musician.generate $(if $(CKPT),model=$(CKPT)) $(ARGS)

serve: setup  ## ask, see and hear a checkpoint in the browser: CKPT=outputs/...
	@$(BIN)/python -m musician.serve $(if $(CKPT),model=$(CKPT)) $(ARGS)

build-tasks: setup  ## instruction data from tunes: ARGS="tunes=FOLDER output=tasks.jsonl"
	@$(BIN)/python -m musician.build_tasks $(ARGS)

bench-eval: setup  ## likelihood scoring beside lm-eval and four full prompts: DATA=MMLU in its official layout
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python bench/eval.py --data "$(DATA)" $(ARGS)

bench-data: setup  ## preprocess, packing, reading beside their peers: ARGS="--sentencepiece DIR --trl PYTHON"
	@$(BIN)/python bench/data.py $(ARGS)

bench-train: setup  ## training beside HF Trainer, TRL and the original's loop: ARGS="--rounds 3 --rows 2"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python bench/train.py $(ARGS)

bench-generate: setup  ## writing beside transformers' generate: ARGS="--model RUN --rounds 3"
	@OMP_NUM_THREADS=1 $(BIN)/python bench/generate.py $(ARGS)

bench-train-gpu: setup  ## training on one GPU beside loops over transformers' modules, random weights
	@$(BIN)/python bench/train_gpu.py $(ARGS)

bench-grammar: setup  ## 500 tunes of a random network, with the grammar and without, read by abc2midi and music21
	@OMP_NUM_THREADS=1 $(BIN)/python bench/grammar.py $(ARGS)

bench-scaling: setup  ## cost of a training step by row length, rank, vocabulary, micro-batch, plotted
	@$(BIN)/python bench/scaling.py $(ARGS)

clean:  ## remove caches and builds (outputs/ and .venv stay)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find musician tests -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@[[ -n "$(PYTHON)" ]] || { echo "error: no python3 found; install Python 3.11, or make setup PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), musician needs 3.11 or newer; make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "error: $(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv $(VENV)

INSTALL := DS_BUILD_OPS=0 $(BIN)/python -m pip install --disable-pip-version-check
REQUIREMENTS := pyproject.toml constraints.txt requirements-assets.txt

$(STAMP): $(REQUIREMENTS) | $(BIN)/python
	@echo "installing the tested versions into $(VENV): minutes the first time"
	@$(INSTALL) -c constraints.txt -e '.[dev]'
	@$(INSTALL) --no-deps -r requirements-assets.txt
	@touch $@

$(DEMO_STAMP): $(REQUIREMENTS) | $(BIN)/python
	@echo "installing what the demo needs into $(VENV): minutes the first time"
	@$(INSTALL) -c constraints.txt -e '.[demo]'
	@$(INSTALL) --no-deps -r requirements-assets.txt
	@touch $@
