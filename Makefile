# The two commands of the README: `make book` and `make test`. Everything else is beside them.
# Written for make 3.81 and BSD tools, so that it runs on macOS as it is.

PYTHON  ?= python3
PROFILE ?= cpu
VENV     = .venv

RUN   = $(VENV)/bin/python
STAMP = $(VENV)/.installed
PAGES = $(VENV)/.installed-pages

.DEFAULT_GOAL := help
.PHONY: help book test test-pages pdf bench regression mutation lint strip colab clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PROFILE=quick|cpu|long|gpu  how much the notebooks compute (default: cpu)"
	@echo "  PYTHON=python3.12           the Python that .venv is made with (default: python3)"

book: $(STAMP) ## Run the notebooks and build the book into _build/html
	@$(RUN) -m tools.book --profile $(PROFILE)

test: $(STAMP) ## Run every test: units, notebooks, and the pages of the quick book
	@$(RUN) -m pytest

test-pages: $(PAGES) ## Look at every page of the book in a headless Chromium
	@$(RUN) -m pytest -rs tests/pages

pdf: $(PAGES) ## Print the book that `make book` built as one PDF in _build
	@$(RUN) -m tools.pdf

regression: $(STAMP) ## Run every notebook and compare with references/PROFILE.json
	@$(RUN) -m tests.regression.command regression --profile $(PROFILE)

mutation: $(STAMP) ## Break copies of the package; the regression must tell each time
	@$(RUN) tests/mutation.py

bench: $(STAMP) ## Time optimizer and training against their peers (give it the machine alone)
	@$(RUN) benchmarks/bench.py

lint: $(STAMP) ## Check the style of package, tests and notebooks
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

strip: $(STAMP) ## Take the outputs out of the notebooks, as they are stored
	@$(RUN) -m tools.notebooks

colab: $(STAMP) ## Run every notebook as on Colab (needs python3.13; some gigabytes)
	@$(RUN) -m tools.imitate_colab

clean: ## Take away all that these targets made
	rm -rf $(VENV) benchmarks/.venv-peers _build regression runs notebooks/runs .pytest_cache .hypothesis .ruff_cache src/multiepoch.egg-info
	find src tests book benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed once, and again only when the requirements change.
$(STAMP): pyproject.toml requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) on this machine; name the Python to use: make PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) .ci/python_version.py
	@test -x $(RUN) || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing what the book and the tests need into $(VENV) (once; a few minutes) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(STAMP)

# What looks at the built pages drives the Chromium of this machine and brings none of its own.
$(PAGES): $(STAMP)
	@echo "Installing what drives the browser into $(VENV) (once; a minute) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -e .[pages]
	@touch $(PAGES)
