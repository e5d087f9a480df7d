# The README explains `make book` and `make test`; `make help` lists every target.
# Written for make 3.81 and BSD tools, so that it also runs on macOS.

PYTHON  ?= python3
PROFILE ?= cpu
VENV     = .venv

RUN   = $(VENV)/bin/python
STAMP = $(VENV)/.installed
PAGES = $(VENV)/.installed-pages

# The pair of versions that the sharded tables are tested with, in an environment of their own.
TORCH    ?= 2.13
TORCHREC ?= 1.8
SHARDED   = .venv-torchrec

# The training libraries of the recipes, in an environment of their own.
CLIENTS  = .venv-clients

# One process of pytest for each core; tests/conftest.py has the order.
PARALLEL = -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help book test test-fast test-pages test-distributed test-clients regression bench gpu colab strip lint lock paper clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PROFILE=quick|cpu|long|gpu  how much the notebooks compute (default: cpu)"
	@echo "  PYTHON=python3.12           the Python for .venv (default: python3)"
	@echo "  GPU=1, TORCH_INDEX=URL      install torch with CUDA without a GPU, or a CPU build from there"
	@echo "  OPTIONS=...                 more options for the target's command, such as OPTIONS=--help"
	@echo "  TORCH=2.14 TORCHREC=1.9     the pair for test-distributed (default: 2.13 and 1.8)"

book: $(STAMP) ## Run the notebooks and build the book in _build/html
	@$(RUN) -m tools.book --profile $(PROFILE) $(OPTIONS)

test: $(STAMP) ## Run all tests: units, notebooks, and the pages of the quick book
	@$(RUN) -m pytest $(PARALLEL) $(OPTIONS)

test-fast: $(STAMP) ## Run the unit and property tests alone, in about a minute
	@$(RUN) -m pytest $(PARALLEL) -m "not slow and not notebook and not page" $(OPTIONS)

test-pages: $(PAGES) ## Check every page of the built book in headless Chromium
	@$(RUN) -m pytest -rs -n auto --maxprocesses 4 tests/pages

test-distributed: $(SHARDED)/.installed-$(TORCH)-$(TORCHREC) ## Test sharded tables on TorchRec with several processes
	@OMP_NUM_THREADS=1 $(SHARDED)/bin/python -m pytest -p no:cacheprovider tests/distributed

test-clients: $(CLIENTS)/.installed ## Run the recipes: Lightning, Accelerate, DeepCTR-Torch, ... (Python 3.11 or 3.12)
	@OMP_NUM_THREADS=1 $(CLIENTS)/bin/python -m pytest -p no:cacheprovider tests/clients

paper: $(STAMP) ## Set the paper from the records, with LaTeX, in _build/paper
	@$(RUN) -m tools.paper

lock: $(STAMP) ## Write the newest versions that fit into requirements.lock
	@$(RUN) -m pip install --quiet --disable-pip-version-check uv
	@$(RUN) -m uv pip compile pyproject.toml --universal --python-version 3.11 --upgrade --quiet \
		--extra book --extra test --extra pages \
		--custom-compile-command "make lock" --output-file requirements.lock $(OPTIONS)

regression: $(STAMP) ## Run every notebook and compare with references/PROFILE.json
	@$(RUN) -m pytest $(if $(filter gpu,$(PROFILE)),,$(PARALLEL)) tests/regression --profile $(PROFILE) $(OPTIONS)

gpu: $(STAMP) ## Run all that needs a GPU (finished runs are kept, so a second call goes on)
	@$(RUN) -m pytest -q -m gpu tests
	@$(RUN) -m benchmarks.gpu_steps --device cuda --out results/gpu/gpu_steps.json
	@$(RUN) -m reproduction tuning --profile gpu --device cuda --keep-rates --only "(shared|plain) rowwise_adagrad, 1 epoch at 1$$"
	@for name in 04 05 07 dose; do $(RUN) -m reproduction $$name --profile gpu --device cuda || exit; done
	@$(RUN) -m reproduction scale --profile long --device cuda --record gpu

bench: $(STAMP) ## Time the optimizer and training against their peers (on an idle machine)
	@$(RUN) -m benchmarks.bench $(OPTIONS)

lint: $(STAMP) ## Lint the code, tests and notebooks, and check formatting, types and spelling
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(VENV)/bin/codespell

strip: $(STAMP) ## Remove the outputs from the notebooks
	@$(RUN) -m tools.notebooks

colab: $(STAMP) ## Run every notebook as on Colab (needs python3.13 and several GB)
	@$(RUN) -m tools.imitate_colab $(OPTIONS)

clean: ## Remove everything these targets create
	rm -rf $(VENV) $(SHARDED) $(CLIENTS) benchmarks/.venv-peers _build regression runs notebooks/runs .pytest_cache .hypothesis .ruff_cache .mypy_cache build src/multiepoch.egg-info src/multiepoch/optim/*.so
	find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Runs once, and again when the requirements or the compiled kernels change.
$(STAMP): pyproject.toml requirements.txt setup.py $(wildcard src/multiepoch/optim/_kernels.cpp)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; choose a Python with make PYTHON=/path/to/python3." >&2; exit 1; }
	@$(PYTHON) .ci/python_version.py
	@test -x $(RUN) || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing the requirements of the book and the tests into $(VENV) (once, takes a few minutes) ..."
	@sh .ci/install_torch.sh $(RUN) torch
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(STAMP)

# The page checks use the Chromium of this machine and download none.
$(PAGES): $(STAMP)
	@echo "Installing the browser driver into $(VENV) (once, takes a minute) ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -e .[pages]
	@touch $(PAGES)

# The order matters: torchrec requires the CUDA build of FBGEMM, which would replace the CPU one.
$(SHARDED)/.installed-$(TORCH)-$(TORCHREC): pyproject.toml setup.py $(wildcard src/multiepoch/optim/_kernels.cpp)
	@$(PYTHON) .ci/python_version.py
	@$(PYTHON) -m venv --clear $(SHARDED)
	@echo "Installing torch $(TORCH) and TorchRec $(TORCHREC) into $(SHARDED) (once, takes a few minutes) ..."
	@sh .ci/install_torch.sh $(SHARDED)/bin/python "torch==$(TORCH).*"
	@$(SHARDED)/bin/python -m pip install --quiet --disable-pip-version-check "torch==$(TORCH).*" "fbgemm-gpu-cpu==$(TORCHREC).*" numpy
	@$(SHARDED)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "torchrec==$(TORCHREC).*"
	@$(SHARDED)/bin/python -m pip install --quiet --disable-pip-version-check tensordict torchmetrics pyre-extensions tqdm psutil "pytest>=8" "pytest-timeout>=2.3" "setuptools>=77"
	@$(SHARDED)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# The libraries of alone.txt would otherwise bring packages that they do not need or that conflict.
$(CLIENTS)/.installed: pyproject.toml setup.py $(wildcard src/multiepoch/optim/_kernels.cpp) tests/clients/requirements.txt tests/clients/alone.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || { echo "RecBole needs NumPy 1, which has no wheels for this Python: make test-clients PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(CLIENTS)
	@echo "Installing seven training libraries into $(CLIENTS) (once, takes a few minutes and 2 GB) ..."
	@sh .ci/install_torch.sh $(CLIENTS)/bin/python "$$(sed -n 's/^\(torch>[^ ]*\).*/\1/p' tests/clients/requirements.txt)"
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/clients/alone.txt
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
