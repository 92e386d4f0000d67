# Everything that a person runs; CI runs the same targets and nothing else.
# All of it stays inside this folder: the virtual environment is .venv, pip's cache is .venv/cache.
# `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
RUFF := $(BIN)/ruff
export PIP_CACHE_DIR ?= $(CURDIR)/$(VENV)/cache
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# What the extensions are made of (not the .c that Cython writes).
EXTENSION_SOURCES := setup.py $(wildcard agent/*.pyx agent/*.pxd agent/*.h)
EXTENSIONS := $(patsubst agent/%.pyi,agent.%,$(wildcard agent/_fast*.pyi))
PYTHON_PATHS := agent bench config demo tests .ci setup.py
QUICK_TESTS := $(wildcard tests/core tests/fast) tests/test_tidy.py
PYTEST := $(PY) -m pytest
SANITIZE := -fsanitize=address,undefined -fno-omit-frame-pointer

# `make image IMAGE=… IMAGE_TOOL=buildah IMAGE_ARGS="--build-arg BASE_DIGEST=@sha256:…"`
IMAGE ?= tailrace:$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' agent/__init__.py)
IMAGE_TOOL ?= $(firstword $(notdir $(wildcard /usr/bin/docker /usr/local/bin/docker /usr/bin/podman /usr/bin/buildah)))
# Podman and Buildah write OCI images otherwise, which have no HEALTHCHECK.
IMAGE_FORMAT = $(if $(filter podman buildah,$(notdir $(IMAGE_TOOL))),--format docker)
IMAGE_ARGS ?=

MICRO = mkdir -p bench/out && $(PYTEST) --quiet --benchmark-enable --benchmark-only \
	--benchmark-json bench/out/micro.json --benchmark-columns=min,median bench

.PHONY: help dev build debug asan annotate demo test t slow fuzz crashes faults soak leaks check fix bench bench-full bench-compare bench-baseline image clean
.PHONY: check-lint check-format check-types check-stubs check-words check-tidy

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

# Stamp files: nothing is installed or built again while what it depends on is unchanged.
$(PY): | .ci/venv
	@bash .ci/venv $(VENV)

$(VENV)/installed: pyproject.toml setup.py | $(PY)
	$(PY) -m pip install --quiet --upgrade pip 'setuptools>=77' 'Cython>=3.1' wheel
	$(PY) -m pip install --quiet --no-build-isolation --editable '.[dev,demo]'
	@touch $@

$(VENV)/built: $(VENV)/installed $(EXTENSION_SOURCES)
	$(PY) setup.py --quiet build_ext --inplace $(if $(wildcard $(VENV)/special),--force)
	@rm -f $(VENV)/special
	@touch $@

dev: $(VENV)/built  ## virtual environment with everything, extensions built
	@$(BIN)/tailrace --version

build: $(VENV)/built  ## build the extensions if their sources changed

debug: $(VENV)/installed  ## build with bounds checks, assertions and line tracing; `make build` goes back
	TAILRACE_DEBUG=1 $(PY) setup.py --quiet build_ext --inplace --force
	@rm -f $(VENV)/built; touch $(VENV)/special

.PHONY: sanitized
sanitized: $(VENV)/installed
	@rm -f $(VENV)/built; touch $(VENV)/special
	CFLAGS="$(SANITIZE) -g" LDFLAGS="$(SANITIZE)" $(PY) setup.py --quiet build_ext --inplace --force

SANITIZED = LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 PYTHONMALLOC=malloc

asan: sanitized  ## the tests of the extensions under AddressSanitizer and UBSan
	$(SANITIZED) $(PYTEST) tests/fast tests/fuzz tests/transforms --timeout 600

fuzz-asan: sanitized  ## RUNS random inputs for every decoder under AddressSanitizer and UBSan
	$(SANITIZED) $(PY) -m tests.fuzz --runs $(RUNS) $(if $(SEED),--seed $(SEED))

leaks: $(VENV)/built  ## parse, encode and stage in a loop: memory must be flat
	TAILRACE_SLOW=1 $(PYTEST) tests/fast/test_leaks.py

annotate: $(VENV)/installed  ## an HTML page per extension that shows where Python is called
	@touch agent/*.pyx  # What is up to date is not translated, so it is not annotated either.
	TAILRACE_ANNOTATE=1 $(PY) setup.py --quiet build_ext --inplace
	@ls agent/*.html

demo: $(VENV)/built  ## the main job without an AWS account, checked line by line
	$(PY) -m demo.demo

test: $(VENV)/built  ## all tests but the slow ones; async ones on uvloop and in asyncio's debug mode
	TAILRACE_TEST_LOOPS=uvloop,debug $(PYTEST) -n auto

t: $(VENV)/built  ## the tests of the lowest floors and of the style: under 5 s
	$(PYTEST) $(QUICK_TESTS)

#: `make fuzz RUNS=1000000 SEED=…`
RUNS ?= 100000
fuzz: $(VENV)/built  ## random bytes for every decoder: RUNS inputs, of them one in a thousand for the canary
	$(PY) -m tests.fuzz --runs $(RUNS) $(if $(SEED),--seed $(SEED))

#: `make crashes COUNT=50 SEED=…`, `make faults COUNT=34 SEED=…`, `make soak MINUTES=30`
COUNT ?=
MINUTES ?= 30
crashes: $(VENV)/built  ## a real agent killed at random 50 times while files rotate; every line is accounted for
	$(PY) -m tests.edge.ordeal crashes --count $(or $(COUNT),50) $(if $(SEED),--seed $(SEED))

faults: $(VENV)/built  ## destinations that fail in every way, one storm after the other; the same checks
	$(PY) -m tests.edge.ordeal faults --count $(or $(COUNT),34) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/built  ## MINUTES of churn and trouble: memory, descriptors and threads must be flat
	$(PY) -m tests.edge.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

slow: $(VENV)/built  ## long randomised runs too
	TAILRACE_SLOW=1 $(PYTEST) -n auto --timeout 900

# `make sim SEED=123` runs one seed again, with `ARGS=--trace` it says what happens; `make sim SEEDS=2000-3999`
.PHONY: sim sim-mutants
SEEDS ?= 0-1999
TICKS ?= 30
sim: $(VENV)/built  ## 2,000 simulated nodes with crashes, rotations and faults: nothing lost, nothing twice
	$(PY) -m tests.sim --ticks $(TICKS) $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --jobs $$(nproc)) $(ARGS)

sim-mutants: $(VENV)/built  ## whether the simulation finds bugs that are put in on purpose
	$(PY) -m tests.sim --mutants --jobs $$(nproc)

check: $(VENV)/built  ## lint, types, spelling, floors: all of them, even after one has failed
	@$(MAKE) --keep-going check-lint check-format check-types check-stubs check-words check-tidy

check-lint: $(VENV)/built
	$(RUFF) check $(wildcard $(PYTHON_PATHS))

check-format: $(VENV)/built
	$(RUFF) format --check $(wildcard $(PYTHON_PATHS))

check-types: $(VENV)/built
	$(PY) -m mypy

check-stubs: $(VENV)/built
	$(PY) -m mypy.stubtest --concise --ignore-disjoint-bases --ignore-unused-allowlist \
		--allowlist tests/stubtest.allow $(EXTENSIONS)

check-words: $(VENV)/built
	$(BIN)/codespell

check-tidy: $(VENV)/built
	$(PYTEST) --quiet tests/test_tidy.py

fix: $(VENV)/built  ## format, and mend what the linter can
	$(RUFF) check --fix $(wildcard $(PYTHON_PATHS))
	$(RUFF) format $(wildcard $(PYTHON_PATHS))
	$(BIN)/codespell --write-changes

$(VENV)/bench: pyproject.toml | $(VENV)/built
	$(PY) -m pip install --quiet --no-build-isolation --editable '.[bench,dev,demo]'
	@touch $@

# `make bench PEER=fluent-bit=/opt/fluent-bit/bin/fluent-bit`
bench: $(VENV)/bench  ## a quick look, in three minutes: paths, one follower, plots in bench/report/
	$(PY) -m bench.report $(addprefix --peer ,$(PEER))

bench-full: $(VENV)/bench  ## all paths, scenes and curves: two hours on a quiet machine, 40 minutes with BRIEF=1
	$(PY) -m bench.report $(if $(BRIEF),--brief,--full) $(addprefix --peer ,$(PEER))

# `make bench-compare FAIL=10` fails where a hot function got slower by more than 10 %.
bench-compare: $(VENV)/built  ## nanoseconds a line of the hot functions, beside bench/baseline.json
	$(MICRO)
	$(PY) -m bench.compare bench/out/micro.json $(addprefix --fail-at ,$(FAIL))

bench-baseline: $(VENV)/built  ## make this machine's figures the baseline
	$(MICRO)
	$(PY) -m bench.compare --save bench/out/micro.json

image:  ## the container image, with docker, podman or buildah
	$(or $(IMAGE_TOOL),$(error none of docker, podman, buildah is installed)) build $(IMAGE_FORMAT) $(IMAGE_ARGS) --tag $(IMAGE) .

clean:  ## remove all that was made here
	rm -rf $(VENV) build dist *.egg-info agent/*.c agent/*.so agent/*.html bench/out demo/out \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +
