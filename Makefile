# make serve   venv, pinned install, native build, server on 127.0.0.1:8000 (NOISEVOTE_PORT moves it)
# make check   the same, and what the tests need (torch among it); lint, types and the quick tests; one minute on two fast processors, two on slow ones
# make test    every test; five minutes on two fast processors, seven and a half on slow ones; WORKERS=4 with more than two processors
# make prove   what takes longer: properties over thousands of examples
# make install what the tests and lint need, without running them
# make lint    ruff and mypy --strict over all rooms and tests
# make bench   the measured comparisons of benchmarks/
# make bench-peers  this server beside others, in environments of their own below .peers; ROUNDS=5 in all, interrupted ones go on
# make lock    resolve requirements/*.lock (UPGRADE=--upgrade: to the newest versions); needs uv

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TORCH := torch==2.13.0
NATIVE := $(wildcard noise_op/native/* training/native/*)
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --durations=10
ROUNDS ?= 5
# All of their tests are marked `training` or `slow`: the quick tests need not look into them.
SLOW_FOLDERS := tests/training tests/end_to_end
PARALLEL := --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

# Tests start hundreds of processes. Where no bytecode may be written, each of them compiles all of the rooms anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: serve install check quick test prove lint bench bench-peers lock clean

serve: $(VENV)/.native
	@exec $(BIN)/noisevote serve

install: $(VENV)/.dev $(VENV)/.native

# Lint and types run beside the tests: mypy alone would leave a processor idle.
check: $(VENV)/.dev $(VENV)/.native
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint quick

quick: $(VENV)/.dev $(VENV)/.native
	$(PYTEST) $(PARALLEL) -m "not slow and not training and not serial and not prove" $(SLOW_FOLDERS:%=--ignore=%)

# Starting a Ray cluster is mostly waiting, so those tests run one after another beside the others.
test: $(VENV)/.dev $(VENV)/.native
	@$(PYTEST) tests/deploy -m "serial and not prove" >$(VENV)/serial.log 2>&1 & serial=$$!; \
	failed=0; \
	$(PYTEST) $(PARALLEL) -m "not serial and not prove" || failed=1; \
	wait $$serial || failed=1; \
	cat $(VENV)/serial.log; \
	exit $$failed

prove: $(VENV)/.dev $(VENV)/.native
	$(PYTEST) -m "prove or hypothesis" --hypothesis-profile=prove

lint: $(VENV)/.dev $(VENV)/.native
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev $(VENV)/.native
	$(BIN)/python -m benchmarks

bench-peers: $(VENV)/.dev $(VENV)/.native
	$(BIN)/python -m benchmarks.peers install
	$(BIN)/python -m benchmarks.peers measure --rounds $(ROUNDS)
	$(BIN)/python -m benchmarks.peers report

# Wheels only, hashes checked; torch by version (its builds differ by platform, see requirements/torch.in). The locks
# name all that is needed, so nothing is resolved anew. What only the tests need is compiled when it is imported: of
# most of it nothing ever is, and compiling all of it would be a third of the install.
LOCKED := install --no-deps --require-hashes --only-binary :all:
$(VENV)/.serve: requirements/serve.lock
	@test -n "$(PYTHON)" || { echo "noisevote needs Python 3.11 or newer (set PYTHON=...)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(LOCKED) -r requirements/serve.lock
	@touch $@

$(VENV)/.dev: requirements/dev.lock | $(VENV)/.serve
	$(PIP) $(LOCKED) --no-compile -r requirements/dev.lock
	$(PIP) install --no-compile $(TORCH)
	@touch $@

$(VENV)/.native: $(NATIVE) pyproject.toml $(VENV)/.serve
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

lock:
	uv pip compile -q $(UPGRADE) --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
		--extra serve pyproject.toml requirements/build.in -o requirements/serve.lock
	uv pip compile -q $(UPGRADE) --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
		--override requirements/without-torch.in --no-emit-package torch --all-extras \
		pyproject.toml requirements/build.in requirements/torch.in -c requirements/serve.lock -o requirements/dev.lock

clean:
	rm -rf $(VENV) build noise_op/*.so noise_op/*.dylib
