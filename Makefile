# Each target does all the set-up it needs. PYTHON chooses the interpreter that makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
BOARDS := $(RUN)/leaderboards

.PHONY: help demo test test-fast lint bench leaderboards clean

help:
	@echo "make demo          train small models on text, reasoning and images under four mixers and print leaderboards"
	@echo "make test          linters, type checker, import contracts, every test, every published table"
	@echo "make test-fast     the same without the slow tests"
	@echo "make bench         speed: a bare loop, the harness, R&B's signal and every mixer's update by number of domains"
	@echo "make leaderboards  regenerate the tables and pictures of leaderboards/ from their rows"
	@echo "make clean         remove the virtual environment and the runs"

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; name one, as in: make demo PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time: PyTorch is large) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[demo,test]"
	@touch $@

demo: $(VENV)/ready
	$(BIN)/harness run demo.yaml --out $(RUN)
	$(BIN)/harness leaderboard $(RUN) --out $(BOARDS) --name demo --title "Demo: three tasks, two seeds"
	@echo
	@echo "Where to look:"
	@echo "  $(BOARDS)/demo/README.md    the tables: what each mixer gained, what it cost, what two seeds cannot tell"
	@echo "  $(BOARDS)/demo/figures/     quality against cost, and how each mixture moved during training"
	@echo "  leaderboards/               the same tasks at a larger scale with more seeds, and what they show"
	@echo "  $(BIN)/harness compare $(RUN) --baseline natural"

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/harness leaderboard --check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-fast: lint
	$(BIN)/harness leaderboard --check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow"

bench: $(VENV)/ready
	MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296 $(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-columns=median,iqr,rounds --benchmark-sort=name

leaderboards: $(VENV)/ready
	@for board in leaderboards/*/; do $(BIN)/harness leaderboard "$$board" --name "$$(basename $$board)" || exit 1; done

clean:
	rm -rf $(VENV) runs
