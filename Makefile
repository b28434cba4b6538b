PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test setup format reference bench bench-accuracy

# Made anew each time; the folder holds nothing but the demo.
demo: setup
	rm -rf demo
	$(BIN)/hilum demo --out demo

# One thread a test process: two that share the cores would wait for each other at every step.
test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

setup: $(VENV)/.installed

# Stamped last, so that an interrupted install is done again.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: setup
	$(BIN)/python docs/make_reference.py
	$(BIN)/python docs/make_rules.py

# Peers to be measured against, in environments of their own: their dependencies contradict each other.
PEERS := benchmarks/.venv-peers

benchmarks/.venv-%/.installed: benchmarks/%.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Wants an idle machine and about an hour; each can be run alone, see benchmarks/README.md.
bench: setup $(PEERS)/.installed
	for name in startup pixels prediction training scaling roofline; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; done

# Wants an idle machine for most of a day; what is done is not done again. Options, such as
# ARGS="--sets brain-mri --seeds 0 --minutes 5", are in benchmarks/README.md.
bench-accuracy: setup $(PEERS)/.installed benchmarks/.venv-torch-peers/.installed \
		benchmarks/.venv-autokeras-peers/.installed
	$(BIN)/python -m benchmarks.accuracy $(ARGS)
