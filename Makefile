# Two commands do everything: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test install clean

demo: $(READY)
	$(BIN)/twoview demo demo $(DEMO_FLAGS)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy twoview
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

install: $(READY)

# mmpose asks for packages that do not build (chumpy) or that break torch (torchvision), so it comes without them.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mmpose,dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps mmpose==1.3.2
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
