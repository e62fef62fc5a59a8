VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

.PHONY: demo example test lint bench bench-quick docs clean

# torch first and pinned: a bare requirement would take gigabytes of GPU libraries
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "reparam needs Python 3.11 or later: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint,features,heic]'
	@touch $@

demo: $(VENV)/.ready
	$(BIN)/reparam demo

# a page to look at, of a small model of the bundled fish: examples/fish.html, 6 MB
example: $(VENV)/.ready
	rm -rf runs/fish
	$(BIN)/reparam train shapes --preset quick --steps 2400 --out runs/fish
	$(BIN)/reparam export runs/fish --format html --data shapes --number 1000 --out examples/fish.html

test: $(VENV)/.ready
	$(BIN)/pytest -n 2

lint: $(VENV)/.ready node_modules/.ready
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/node node_modules/typescript/bin/tsc

# the checker of the pages' modules, by the node and npm that the virtual environment brings
node_modules/.ready: package-lock.json $(VENV)/.ready
	$(BIN)/npm ci --silent --no-fund --no-audit || \
	  { echo "make lint needs npm's registry once, for the TypeScript that package-lock.json names"; exit 1; }
	@touch $@

docs: $(VENV)/.ready
	$(BIN)/python docs/make_reference.py

bench: $(VENV)/.ready
	@test -n "$(DATA)" || { echo "name a folder with mnist.npz and the others: make bench DATA=..."; exit 1; }
	$(BIN)/python benchmarks/mnist_likelihood.py $(DATA)/mnist.npz
	$(BIN)/python benchmarks/defaults.py $(DATA)
	$(BIN)/python benchmarks/kill_and_resume.py

bench-quick: $(VENV)/.ready
	$(BIN)/python benchmarks/quick.py

clean:
	rm -rf $(VENV) node_modules runs
