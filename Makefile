# Two commands: `make demo` and `make test`. `make test-all` adds the full-size nets, `make regressions`
# sees whether a call has become slower. Each makes .venv first and installs what it needs.
PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt $(PIP_FLAGS)

.PHONY: demo test test-all regressions lint types pytest clean

demo: $(VENV)/demo.done
	$(BIN)/python -m allfocus.benchmarks.demo --out demo-out

test: lint types pytest

test-all: lint types
	$(BIN)/python -m pytest -m ""

# No times, only ratios within one run and counts: see benchmarks/README.md.
regressions: $(VENV)/test.done
	$(BIN)/allfocus bench ratios --out out/ratios.json
	$(BIN)/allfocus bench compare benchmarks/results/ratios-xeon-2core.json out/ratios.json --tolerance 50%

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot see an editable install, so it checks a copy of the installed package.
types: $(VENV)/test.done
	rm -rf out/types build
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --target out/types .
	MYPYPATH=out/types $(BIN)/mypy -p allfocus

# In two processes: more would want more memory than a small machine has.
pytest: $(VENV)/test.done
	# two at once, each in one thread: with more they would wait for each other
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.done: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e ".[export,trt-rtx]"
	touch $@

$(VENV)/test.done: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e ".[dev,trt-rtx]"
	touch $@ $(VENV)/demo.done

clean:
	rm -rf $(VENV) out build demo-out
