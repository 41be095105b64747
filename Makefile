# Set-up and everyday commands. Needs make and Python 3.11 or later; everything else is installed into .venv.
#
#   make demo      make a first picture
#   make test      lint, type checks and all tests
#   make lint      ruff and pyright only
#   make docs      build the pages into site/
#   make results   remake every table of docs/results; see its README for the single commands
#   make study     train the models of the study of memory and make its tables: about three hours of two cores
#   make bench     the benchmarks of speed alone, an hour and a half
#   make clean     remove .venv and what was built

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3 python
RECENT := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
STUDY := runs/study
TRAIN := --memory $(STUDY)/memory --max_train_steps 1000 --lr_cooldown_steps 250 --lr_warmup_steps 150 --ema_decay 0.998 \
  --mixed_precision bf16 --resume_from_checkpoint latest

.PHONY: demo test lint docs results study bench clean

demo: $(VENV)/.installed
	@$(BIN)/sfumato generate "a red apple" --seed 7 --force --output pictures
	@echo "Your first picture: $(CURDIR)/pictures/a-red-apple-0000.png"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pyright --pythonpath $(BIN)/python --project benchmarks

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

results: $(VENV)/.dev $(STUDY)/openmoji bench
	$(BIN)/sfumato evaluate --output docs/results --force --card
	$(BIN)/python benchmarks/details.py --write
	$(BIN)/python benchmarks/steering.py --write
	$(BIN)/python benchmarks/binding.py $(if $(CC500),--cc500 $(CC500)) --write
	$(BIN)/python tools/binding_table.py
	$(BIN)/python benchmarks/placing.py --write
	$(BIN)/python benchmarks/memory_modes.py --other $(STUDY)/openmoji --write

study: $(VENV)/.dev $(STUDY)/openmoji
	$(BIN)/sfumato memory build world:3d -o $(STUDY)/memory
	@mkdir -p $(STUDY)/models
	@set -e; for run in "k1 --neighbours 1" "k2 --neighbours 2" "k4 --neighbours 4" "k8 --neighbours 8" \
	  "none --neighbours 0" "wide --neighbours 0 --width 48"; do set -- $$run; name=$$1; shift; \
	  $(BIN)/sfumato train retrieval $(TRAIN) --output_dir $(STUDY)/$$name $$*; \
	  ln -sfn ../$$name/retrieval-00001000 $(STUDY)/models/$$name; \
	done
	@set -e; for name in k1 k2 k4 k8; do \
	  $(BIN)/python benchmarks/memory_modes.py --model $(STUDY)/models/$$name --neighbours $${name#k} --guidance 2 \
	    --other $(STUDY)/openmoji --name memory_$$name --write; \
	done
	$(BIN)/python benchmarks/memory_unconditional.py --model $(STUDY)/models/k4 \
	  --without $(STUDY)/models/none $(STUDY)/models/wide --write
	$(BIN)/python benchmarks/memory_unconditional.py --model $(STUDY)/models/k4 --guidance 1 \
	  --name memory_unconditional_plain --write
	$(BIN)/python benchmarks/memory_plots.py

$(STUDY)/openmoji: | $(VENV)/.dev
	$(INSTALL) --editable '.[benchmarks]'
	$(BIN)/sfumato world fetch
	$(BIN)/python benchmarks/openmoji.py $@

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/sampling_loop.py --repeats 41 --write
	$(BIN)/python benchmarks/sampling_loop.py --full --repeats 15 --write
	$(BIN)/python benchmarks/sampling_loop.py --full --side 32 --repeats 31 --write
	$(BIN)/python benchmarks/defaults.py --repeats 21 --write
	$(BIN)/python benchmarks/defaults.py --full --repeats 9 --write
	$(BIN)/python benchmarks/composition_loop.py --repeats 61 --write
	$(BIN)/python benchmarks/edits_cost.py --repeats 7 --write
	$(BIN)/python benchmarks/cold_start.py --repeats 9 --write
	$(BIN)/python benchmarks/retrieval_search.py --write
	$(BIN)/python benchmarks/memory_build.py --repeats 7 --write
	$(BIN)/python benchmarks/memory_build.py --encoder clip-b32 --pictures 512 --repeats 7 --write

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
