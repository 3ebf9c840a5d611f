# Each target does all of its own set-up, so that it works on a machine that has seen none of this before.
# TORCH_INDEX=cpu|default|ADDRESS says where PyTorch comes from (scripts/install.py chooses if it is empty); LOCK= (empty)
# installs the newest versions that requirements.txt allows instead of the tested ones.
PYTHON ?= python3
VENV ?= .venv
LOCK ?= requirements.lock
BIN := $(VENV)/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := $(SUDO) apt-get update -q && $(SUDO) apt-get install -q -y --no-install-recommends
INSTALL = scripts/install.py $(addprefix -c ,$(LOCK))
OFFLINE := HF_HUB_OFFLINE=1
# Dozens of tests start a process: what they import is compiled once.
export PYTHONDONTWRITEBYTECODE :=
FAST := not browser and not ray and not slow and not hub and not gpu

.PHONY: demo test quick lint docs lowest newest openvino lock bench tiny-report clean

demo: $(VENV)/.demo
	$(BIN)/python app.py

# Two at a time: the types beside the documentation, and then two processes that share all tests: while one waits for Chromium or
# Ray, the other computes.
test:
	$(MAKE) --jobs=2 --output-sync lint docs browser
	$(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations=40

# What one runs while working: no apt, no browser, no Ray, no Hub.
quick: lint
	$(OFFLINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --maxschedchunk=8 -m "$(FAST)"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

# The documentation as a site, in site/.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The tests with the oldest series of each requirement that is allowed: what the lower bounds promise. What is judged by the
# newest series, that upper bounds stop at the next major, is left out.
lowest: browser
	$(PYTHON) -m venv $(VENV)-lowest
	sed -E 's/>=([0-9.]+),.*/==\1.*/' requirements.txt > $(VENV)-lowest/requirements.txt
	$(VENV)-lowest/bin/python scripts/install.py -r $(VENV)-lowest/requirements.txt -r requirements-dev.txt
	$(OFFLINE) $(VENV)-lowest/bin/python -m pytest \
		--deselect tests/test_project.py::test_requirements_have_a_lower_bound_and_stop_at_the_next_major

# The tests with the newest versions that are allowed, which may be newer than the locked ones.
newest: browser
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python scripts/install.py --upgrade -r requirements-dev.txt
	$(OFFLINE) $(VENV)-newest/bin/python -m pytest

# OpenVINO beside torch as what runs the encoders: an extra that neither the page nor the other tests install.
openvino: $(VENV)/.dev
	$(BIN)/python -m pip install -q $(addprefix -c ,$(LOCK)) "$$($(BIN)/python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["openvino"])')"
	$(OFFLINE) $(BIN)/python -m pytest tests/backbones/test_openvino.py tests/backbones/test_runtimes.py

# Writes down the versions that are installed here, and what other systems and Pythons need beside them. Run the tests first.
lock: $(VENV)/.dev
	$(BIN)/python -m pip freeze --exclude-editable | grep '==' > $(VENV)/tested.txt
	$(BIN)/uv pip compile requirements-dev.txt pyproject.toml --extra openvino --constraints $(VENV)/tested.txt --universal --python-version 3.11.5 \
		--no-header --no-annotate --no-emit-index-url --output-file requirements.lock

bench: $(VENV)/.dev browser
	$(OFFLINE) $(BIN)/python -m bench
	$(OFFLINE) $(BIN)/python -m bench.systems

tiny-report: $(VENV)/.demo
	$(OFFLINE) $(BIN)/python -m tiny report

$(VENV)/.demo: requirements.txt
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -r requirements.txt
	touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -r requirements-dev.txt
	touch $@ $(VENV)/.demo

# The browser tests drive Chromium and Firefox, and axe-core checks the page for accessibility.
.PHONY: browser
browser: node_modules/puppeteer-core/package.json
	@command -v chromium >/dev/null || { $(APT) chromium fonts-dejavu-core; }
	@command -v firefox-esr >/dev/null || command -v firefox >/dev/null || { $(APT) firefox-esr; }

node_modules/puppeteer-core/package.json:
	@command -v npm >/dev/null || { $(APT) npm; }
	npm install --no-save --no-audit --no-fund --silent axe-core@4 puppeteer-core@25

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest node_modules site
