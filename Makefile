# Every target makes what it needs first: the virtual environment, the packages, and Chromium for the browser tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(shell cksum < requirements.txt | cut -d' ' -f1)
PORT ?= 8501

.PHONY: app test check chromium screenshots

app: $(READY)
	$(BIN)/python -m workbench app --port $(PORT)

test: $(READY) chromium
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/pyright

screenshots: $(READY) chromium
	$(BIN)/python -m tests.browser.screenshots

$(READY): requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	rm -f $(VENV)/.ready-*
	touch $@

# Playwright drives the system's browser; its own download is not used.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  { echo "Installing Chromium for the browser tests"; \
	    SUDO=$$(test "$$(id -u)" = 0 || echo sudo); $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq chromium >/dev/null; }
