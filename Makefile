# Every target makes what it needs first: the virtual environment, the packages, and Chromium for the browser tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Named after the lists it was made from: when one changes, the packages are installed again.
READY := $(VENV)/.ready-$(shell cat pyproject.toml requirements.txt requirements.lock | cksum | cut -d' ' -f1)
PORT ?= 8501

.PHONY: app test check families families_table licences audit mutants newest chromium screenshots

app: $(READY)
	$(BIN)/retouch app --port $(PORT)

test: $(READY) chromium
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Every family that transformers builds and TransformerLens bridges; `families_table` writes docs/families.md from what they do.
families: $(READY)
	FAMILIES=all OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup tests/contract/test_families.py

families_table: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.family_table

licences: $(READY)
	$(BIN)/python -m tests.licences

# Whether the installed packages fit each other; then, over the network, known vulnerabilities of the locked versions.
audit: $(READY)
	$(BIN)/pip check
	test -x .audit/bin/pip-audit || { $(PYTHON) -m venv .audit && .audit/bin/pip install --quiet pip-audit; }
	.audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip

mutants: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants

newest: chromium
	PYTHON=$(PYTHON) .ci/newest

screenshots: $(READY) chromium
	$(BIN)/python -m tests.browser.screenshots

$(READY):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	rm -f $(VENV)/.ready-*
	touch $@

# Playwright drives the system's browser; its own download is not used.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { echo "Installing Chromium for the browser tests"; \
	    SUDO=$$(test "$$(id -u)" = 0 || echo sudo); $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq chromium >/dev/null; }
