# Set-up and everyday commands. Needs make and Python 3.11 or later; everything else is installed into .venv.
#
#   make demo      make a first picture
#   make test      lint, type checks and all tests
#   make lint      ruff and pyright only
#   make docs      build the pages into site/
#   make results   remake every table of docs/results; see its README for the single commands
#   make bench     the benchmarks alone; BENCH=--full adds the networks of Stable Diffusion's size
#   make clean     remove .venv and what was built

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python
RECENT := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
BENCH ?=

.PHONY: demo test lint docs results bench clean

demo: $(VENV)/.installed
	@$(BIN)/sfumato generate "a red apple" --seed 7 --force --output pictures
	@echo "Your first picture: $(CURDIR)/pictures/a-red-apple-0000.png"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

results: $(VENV)/.dev bench
	$(BIN)/sfumato evaluate --output docs/results --card
	$(BIN)/python benchmarks/steering.py --write
	$(BIN)/python benchmarks/edits_cost.py --write
	$(BIN)/python benchmarks/binding.py $(if $(CC500),--cc500 $(CC500)) --write
	$(BIN)/python benchmarks/placing.py --write
	$(BIN)/python benchmarks/memory_modes.py --write
	$(BIN)/python benchmarks/retrieval_search.py --write
	$(BIN)/python benchmarks/memory_build.py --write
	$(BIN)/python benchmarks/memory_build.py --encoder clip-b32 --pictures 512 --write

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/sampling_loop.py --write $(BENCH)
	$(BIN)/python benchmarks/defaults.py --write $(BENCH)
	$(BIN)/python benchmarks/composition_loop.py --write $(BENCH)
	$(BIN)/python benchmarks/cold_start.py --write

clean:
	rm -rf $(VENV) site build dist

# Set-up, each step once: an empty environment, torch by itself (so that the build of it that pip prefers here stays the
# only one), the package, and what developing and the pages need. A change of constraints or dependencies repeats it.

$(VENV)/.empty:
	@for python in $(PYTHONS); do \
	  if command -v $$python >/dev/null && $$python -c '$(RECENT)' 2>/dev/null; then \
	    echo "setting up $(VENV) with $$($$python --version)"; \
	    $$python -m venv $(VENV) && touch $@ && exit 0; exit 1; \
	  fi; \
	done; \
	echo "sfumato needs Python 3.11 or later with its venv module, and none was found: install it, or name it by" \
	  "'make PYTHON=/path/to/python3.11'." >&2; exit 1

$(VENV)/.torch: constraints.txt | $(VENV)/.empty
	@echo "installing torch (this takes a while, once)"
	@$(INSTALL) torch
	@touch $@

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "installing sfumato"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo "installing the tools for tests"
	@$(INSTALL) --editable '.[dev,train,judge,language,cluster]'
	@touch $@

$(VENV)/.docs: $(VENV)/.installed
	@echo "installing the tools for pages"
	@$(INSTALL) --editable '.[docs]'
	@touch $@
