# Each target does all of its own set-up, so that it works on a machine that has seen none of this before.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
INSTALL := $(SUDO) apt-get update -q && $(SUDO) apt-get install -q -y --no-install-recommends

.PHONY: demo test quick lint lowest bench tiny-report clean

demo: $(VENV)/.demo
	$(BIN)/python app.py

test: lint browser
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --durations=30

# What one runs while working: no apt, no browser, no Ray, no Hub.
quick: lint
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not browser and not ray and not slow and not hub and not gpu"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests with the oldest series of each requirement that is allowed: what the lower bounds promise. What is judged by the
# newest series, that upper bounds stop at the next major, is left out.
lowest: browser
	$(PYTHON) -m venv $(VENV)-lowest
	sed -E 's/>=([0-9.]+),.*/==\1.*/' requirements.txt > $(VENV)-lowest/requirements.txt
	$(VENV)-lowest/bin/python -m pip install -q -r $(VENV)-lowest/requirements.txt -r requirements-dev.txt
	HF_HUB_OFFLINE=1 $(VENV)-lowest/bin/python -m pytest \
		--deselect tests/test_project.py::test_requirements_have_a_lower_bound_and_stop_at_the_next_major

bench: $(VENV)/.dev browser
	HF_HUB_OFFLINE=1 $(BIN)/python -m bench

tiny-report: $(VENV)/.demo
	HF_HUB_OFFLINE=1 $(BIN)/python -m tiny report

$(VENV)/.demo: requirements.txt
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements.txt
	touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	touch $@ $(VENV)/.demo

# The browser tests drive Chromium, and axe-core checks the page for accessibility.
.PHONY: browser
browser: node_modules/axe-core/axe.min.js
	@command -v chromium >/dev/null || { $(INSTALL) chromium fonts-dejavu-core; }

node_modules/axe-core/axe.min.js:
	@command -v npm >/dev/null || { $(INSTALL) npm; }
	npm install --no-save --no-audit --no-fund --silent axe-core@4

clean:
	rm -rf $(VENV) $(VENV)-lowest node_modules
