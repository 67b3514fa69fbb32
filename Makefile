# One virtual environment, .venv, made from requirements.lock and made again when that changes. Nothing here needs root; what the
# system tests need and do not find (root, foreign programs), they say when they skip.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/lock.stamp
PYTEST := $(PY) -m pytest

.DEFAULT_GOAL := help
.PHONY: help venv run test check check-style check-types check-imports check-docs format system screenshots bench soak coverage lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

# Editable, so that what runs is always the checkout, in every process that a test starts too.
# Without build isolation: the setuptools that builds is the one in the lock file.
$(STAMP): requirements.lock setup.cfg pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

venv: $(STAMP)  ## the virtual environment that all below use

run: $(STAMP)  ## a gateway and thirty simulated devices, with commands to try
	$(PY) -m m2mapp.sim.demo

# Two at a time: most of the system tests' time is waiting.
test: $(STAMP)  ## unit tests and a smoke of each system test
	M2MAPP_SMOKE=1 $(PYTEST) -n 2 tests/unit tests/system

check: check-style check-types check-imports check-docs  ## all four (make -k check: the others too when one fails)

check-style: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

check-types: $(STAMP)
	$(VENV)/bin/mypy

check-imports: $(STAMP)
	$(VENV)/bin/lint-imports --no-logo

check-docs: $(STAMP)
	$(PY) -m tests.check_docs

format: $(STAMP)  ## put the code in form
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

system: $(STAMP)  ## the system tests in full (root, for network namespaces)
	$(PYTEST) -o faulthandler_timeout=1800 tests/system

screenshots: $(STAMP)  ## pictures of the pages, to docs/pages
	$(PY) -m tests.system.screenshots

bench: $(STAMP)  ## benchmarks, to docs/benchmarks.md
	$(PY) -m tests.bench

soak: $(STAMP)  ## the long counts, to docs/soak.md
	M2MAPP_SOAK=1 $(PY) -m tests.soak

coverage: $(STAMP)  ## what the unit tests reach, branch by branch
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest tests/unit
	$(VENV)/bin/coverage combine
	$(VENV)/bin/coverage report

lock: setup.cfg  ## take the newest versions within the bounds of setup.cfg into requirements.lock
	rm -rf $(VENV).lock
	$(PYTHON) -m venv $(VENV).lock
	$(VENV).lock/bin/python -m pip install --quiet --upgrade 'setuptools>=77,<85' --editable '.[test,check]'
	{ echo '# Exact versions for running, testing and checking (Python 3.11, Linux). Made by `make lock`; the bounds are in setup.cfg.'; \
	  $(VENV).lock/bin/python -m pip freeze --all --exclude pip --exclude-editable; } > requirements.lock
	rm -rf $(VENV).lock

clean:  ## remove what was made here
	rm -rf $(VENV) $(VENV).lock build dist *.egg-info .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf _trial_temp* twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
