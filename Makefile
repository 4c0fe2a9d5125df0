# Everything runs in .venv, which the first target that needs it creates.
.DEFAULT_GOAL := help

PYTHON ?= python3
WORKERS ?= 2
OUT ?= demo-out

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/sslbench-installed

.PHONY: help venv demo test test-slow regress lint speed clean

help:
	@echo "make venv       create $(VENV) (PYTHON=python3.12 picks the interpreter, 3.11 or newer)"
	@echo "make demo       train, evaluate and compare on the mini benchmark; results in $(OUT)/"
	@echo "make test       the test suite (WORKERS=$(WORKERS) processes)"
	@echo "make test-slow  the tests that take minutes"
	@echo "make regress    measure a small subset anew, and fail where it is worse than noise explains"
	@echo "make lint       ruff check, ruff format --check, mypy"
	@echo "make speed      every benchmark of tests/speed/, one after the other"
	@echo "make clean      remove $(OUT)/, build products and caches (keeps $(VENV))"

venv: $(STAMP)

# The stamp is touched last: an install that was cut off is repeated, a whole one is not.
$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "sslbench needs Python 3.11 or newer, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)."; \
	    echo "Name a newer one, for example: make venv PYTHON=python3.12"; \
	    exit 1; }; \
	  $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,robot]'
	@touch $@

demo: venv
	$(BIN)/sslbench demo --out $(OUT)

# One thread a process: the workers already fill the cores.
test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

test-slow: venv
	$(BIN)/python -m pytest -m slow

regress: venv
	OMP_NUM_THREADS=1 $(BIN)/sslbench regress --baseline tests/leaderboards/regress.json

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

speed: venv
	@for script in tests/speed/[a-z]*.py; do \
	  test -e "$$script" || { echo "tests/speed/ holds no benchmark yet"; break; }; \
	  echo "== $$script"; \
	  $(BIN)/python "$$script" || exit 1; \
	done

clean:
	rm -rf $(OUT) build dist .pytest_cache .ruff_cache .mypy_cache
	find bench trainers tasks leaderboards tests -name __pycache__ -type d -prune -exec rm -rf {} +
