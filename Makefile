# Every habitual act. Each sets itself up: a clone, Python 3.11 and make are all it takes.
PYTHON ?= python3.11
BIN := .venv/bin
MINUTES ?= 30
SERVICE ?= pypi

.PHONY: demo test test-pi test-faults fuzz soak lint format bench lock audit clean

demo: .venv/ready ## the whole path on a synthetic plant: train, evaluate, export, deploy, listen
	$(BIN)/edge-asd demo --out demo-plant

test: .venv/ready ## every test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-pi: .venv/ready ## deployment on whole virtual Pis, kernel and all; as root, most of an hour
	EDGE_ASD_VIRTUAL_PI=1 $(BIN)/python -m pytest tests/pi --exitfirst --capture=no

test-faults: .venv/ready ## every fault, hundreds of times, an hour or two; the table is written to docs/reliability.md
	rm -rf .faults
	EDGE_ASD_FAULTS=all $(BIN)/python -m pytest tests/faults --numprocesses 4 --dist load; \
		status=$$?; PYTHONPATH=tests $(BIN)/python -m faults.ledger .faults docs/reliability.md; exit $$status

fuzz: .venv/ready ## strangers' bytes at every door, at most so many MINUTES each; the table is written to docs/reliability.md
	PYTHONPATH=tests $(BIN)/python -m fuzz --minutes $(MINUTES) --page docs/reliability.md

soak: .venv/ready ## HOURS=2 as they pass, and 48 in simulated time: what grows and what is missed; to docs/reliability.md
	OPENBLAS_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m soak docs/reliability.md $(or $(HOURS),2)

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

audit: .audit/ready ## known weaknesses of every pinned version, by a public service: SERVICE=osv asks another one than PyPI
	@status=0; for pins in tools/edge_asd_tools/deploy/locks/*.txt constraints.txt; do \
		echo "$$pins"; .audit/bin/pip-audit --vulnerability-service $(SERVICE) --strict --disable-pip --no-deps \
			--progress-spinner off --requirement $$pins || status=1; done; exit $$status

clean: ## everything that was made here, but for the environment
	rm -rf demo-plant dist .arm64 .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .fuzz

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
		|| { echo "make: training needs Python 3.11, and $(PYTHON) isn't that; say which is: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up .venv once: some minutes, 4 GB"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# Apart from .venv, whose packages it would otherwise bind to its own; it asks for what is pinned, and imports none of it.
.audit/ready: Makefile
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip install --quiet pip-audit==2.10.1
	@touch $@
