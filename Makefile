# Every habitual act. Each sets itself up: a clone, Python 3.11 and make are all it takes.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test test-pi lint format bench lock clean

demo: .venv/ready ## the whole path on a synthetic plant: train, evaluate, export, deploy, listen
	$(BIN)/edge-asd demo --out demo-plant

test: .venv/ready ## every test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-pi: .venv/ready ## deployment on whole virtual Pis, kernel and all; as root, most of an hour
	EDGE_ASD_VIRTUAL_PI=1 $(BIN)/python -m pytest tests/pi --exitfirst --capture=no

lint: .venv/ready ## style, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready ## let the formatter have its way
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready ## ours beside its peers, in one run; written to docs/benchmarks.md
	$(BIN)/python -m edge_asd_trainer.bench

lock: .venv/ready ## what devices get, wheel by wheel, made anew from constraints.txt
	$(BIN)/python -m edge_asd_tools.deploy.locking

clean: ## everything that was made here, but for the environment
	rm -rf demo-plant dist .arm64 .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
		|| { echo "make: training needs Python 3.11, and $(PYTHON) isn't that; say which is: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up .venv once: some minutes, 4 GB"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
