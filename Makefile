# `make demo` and `make test` do everything. Every target makes the environment first.
PYTHON ?= python3
DEMO_FLAGS ?=
# TORCH_INDEX=https://download.pytorch.org/whl/cpu on Linux without a GPU: PyTorch in 1.7 GB instead of 6.3.
TORCH_INDEX ?=
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
BENCH_FLAGS ?= --quick
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
READY := $(VENV)/.ready

.PHONY: demo test lint docs bench wheel install clean

demo: $(READY)
	$(BIN)/twoview demo demo $(DEMO_FLAGS)

test: export OMP_NUM_THREADS = 1
test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy twoview

# Write docs/reference/cli.md and config.md from the code (tests/test_docs.py fails while they are out of date), then
# the site in build/site, which opens from the disk.
docs: $(READY)
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# `make bench` lists the benchmarks; `make bench NAME=table1` runs one in its quick form, with BENCH_FLAGS= in full.
bench: $(READY)
ifdef NAME
	$(BIN)/python tests/benchmarks/$(NAME).py $(BENCH_FLAGS)
else
	@grep -l __main__ tests/benchmarks/*.py | xargs grep -m 1 '"""' | sed 's,.*/\(.*\)\.py:"*,\1: ,; s,"*$$,,'
endif

# What a user of `pip install` has: the wheel, alone in an environment of its own, and the demo with its smallest settings.
wheel:
	rm -rf build/wheel build/dist
	$(PYTHON) -m venv build/wheel
	build/wheel/$(notdir $(BIN))/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/dist .
	build/wheel/$(notdir $(BIN))/python -m pip install --quiet --disable-pip-version-check $(INDEX) -c constraints.txt build/dist/*.whl
	cd build && wheel/$(notdir $(BIN))/twoview demo demo --quick

install: $(READY)

# mmpose requires packages that do not build (chumpy) or that break torch (torchvision): install it without them.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(INDEX) -c constraints.txt -e ".[mmpose,dev]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps mmpose==1.3.2
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
