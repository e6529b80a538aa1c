# `make` alone lists the targets. Each says in one sentence what it does; the sentence is what `make` prints.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
STAMP := $(VENV)/.installed
# The first Python of at least 3.11 that can make a virtual environment; another one with `make PYTHON=/path/to/python`.
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python
# Handed to the command behind `run`, `check`, `test`, `migrate`, `chaos`, `attack` and `bench`, as in `make run ARGS=--no-demo`.
ARGS :=
# Where `make site` builds.
SITE := .site
# Of `make chaos`, for which SEED may be several, comma separated, and of `make attack`.
SEED := 1
MINUTES := 1
UV_VERSION := 0.13.9
# More than cores: two processes run tests with stacks, which mostly wait.
TEST_PROCESSES := 3

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# Compiled modules halve the start of every process of a stack, and the tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help:
	@echo "Targets, as in 'make run':"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  %-16s %s\n' "$$name" "$$text"; done

.PHONY: install
install: $(STAMP) ## Make .venv with the command loyalty-webhooks and all that running, tests and development need.

# A package is taken only with a hash that stands in requirements.lock. The environment is made anew when its Python
# has gone; the stamp is written last, so a broken install is tried again.
$(STAMP): requirements.lock pyproject.toml
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		for python in $(if $(PYTHON),"$(PYTHON)",$(PYTHONS)); do \
			"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
			echo "Making $(VENV) with $$("$$python" --version)"; \
			exec "$$python" -m venv --clear $(VENV); \
		done; \
		echo "Python 3.11 or newer with the module venv is needed (Debian and Ubuntu: apt install python3-venv)." >&2; \
		echo "Looked for: $(if $(PYTHON),$(PYTHON),$(PYTHONS)). Name another with make PYTHON=/path/to/python" >&2; \
		exit 1; \
	fi
	@echo "Installing the packages of requirements.lock into $(VENV), some minutes the first time, a dot for each"
	@{ $(BIN)/python -m pip install --progress-bar off --require-hashes --requirement requirements.lock || echo failed; } | \
		awk '/^Collecting / { printf "."; fflush() } { last = $$0 } END { print ""; exit (last == "failed") }'
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

.PHONY: run
run: install ## Start everything on this machine, with a receiver and samples to watch; Ctrl-C stops it all.
	@$(BIN)/loyalty-webhooks up $(ARGS)

# Types are checked beside the tests: mypy takes one core for 20 s.
with_types = report=$$(mktemp); $(BIN)/mypy >"$$report" 2>&1 & types=$$!; $(1); tests=$$?; \
	wait $$types; types=$$?; cat "$$report"; rm "$$report"; exit $$((tests | types))

.PHONY: check
check: lint ## Check style, types and imports and run the tests that need no server: a minute and a half.
	@$(call with_types,$(BIN)/python -m pytest --no-servers -n logical --maxprocesses 4 -q $(ARGS))

.PHONY: test
test: lint ## Check style, types and imports and run every test: what the CI runs.
	@$(call with_types,$(BIN)/python -m pytest -n $(TEST_PROCESSES) $(ARGS))

.PHONY: lint
lint: install ## Check style, formatting and who imports whom.
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/lint-imports --no-cache --no-logo

.PHONY: format
format: install ## Format the code and mend what can be mended mechanically.
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format

.PHONY: types
types: install ## Check the types, strictly.
	@$(BIN)/mypy

.PHONY: fuzz
fuzz: install ## Try the whole API with over 5,000 cases of its own description, good and bad; prints the seed. For the night.
	@SCHEMATHESIS_EXAMPLES=$${SCHEMATHESIS_EXAMPLES:-200} $(BIN)/python -m pytest -s --timeout 7200 tests/api/test_schemathesis.py $(ARGS)

.PHONY: bench
bench: install ## Measure latency, bursts, their ratio to batches off, and signing, on this machine; docs/performance.md lists what else.
	@$(BIN)/python -m bench.pipeline $(ARGS)

.PHONY: peers
peers: install $(PEERS)/.installed ## Compare with what people would use instead, in two runs of 25 minutes, the second over HTTPS; needs redis-server.
	@$(BIN)/python -m bench.peers $(ARGS)
	@$(BIN)/python -m bench.peers --tls $(ARGS)

$(PEERS)/.installed: bench/peers/requirements.lock
	@$(BIN)/python -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --require-hashes --requirement bench/peers/requirements.lock
	@touch $@

.PHONY: chaos
chaos: install ## Kill, stop and cut off everything by seed and count what is lost, as in SEED=7 MINUTES=2 ARGS=--partitions.
	@$(BIN)/python -m tests.chaos --seeds $(SEED) --minutes $(MINUTES) $(ARGS)

.PHONY: kills
kills: install ## Kill each component three times in a minute of 400 events a second, for docs/reliability.md; 10 minutes.
	@$(BIN)/python -m tests.chaos.kills $(ARGS)
	@$(BIN)/python docs/render.py

.PHONY: hour
hour: install ## Deliver 30 % of the burst rate for an hour with a disturbance a minute, as in ARGS="--minutes 10".
	@$(BIN)/python -m tests.chaos.hour $(ARGS)
	@$(BIN)/python docs/render.py

.PHONY: figures
figures: install $(PEERS)/.installed ## Take the figures of the pages anew, all but five, and render them; some five hours on a quiet machine.
	@$(BIN)/python -m bench.figures $(ARGS)

.PHONY: attack
attack: install ## Attack the API and a worker by seed and count what is let in, as in SEED=7; ten minutes.
	@$(BIN)/python -m tests.attack --seed $(SEED) $(ARGS)

.PHONY: recovery
recovery: install ## Recover 20,000 deliveries at 600 a second, kill a worker and Temporal meanwhile, and count what came.
	@RECOVERED_DELIVERIES=20000 RECOVERED_PER_SECOND=600 $(BIN)/python -m pytest -s tests/e2e/test_recovery_kills.py $(ARGS)

.PHONY: migrate
migrate: install ## Bring the database of DATABASE_URL to the schema of this code.
	@$(BIN)/loyalty-webhooks migrate $(ARGS)

.PHONY: docs
docs: install ## Write the parts of docs/ that are generated from the code, and build the site.
	@$(BIN)/python docs/render.py
	@$(MAKE) --no-print-directory site
	@echo "To read it with its search: $(BIN)/python -m http.server --directory $(SITE)/html"

# The pages are copied as they lie in the repository, so that a link is right in both.
.PHONY: site
site: install ## Build the site of docs/ in .site/html; a broken link is an error.
	@rm -rf $(SITE) && mkdir -p $(SITE)/source
	@cp zensical.toml $(SITE)
	@cp -R --parents *.md LICENSE docs examples $(SITE)/source
	@find $(SITE)/source/docs \( -name '*.py' -o -name '*.pyc' \) -delete
	@$(BIN)/zensical build --strict --config-file $(SITE)/zensical.toml

.PHONY: screenshots
screenshots: install ## Take the pictures of panel, Temporal UI and terminal in docs/, with Chromium on a real stack.
	@$(BIN)/python -m tests.panel.screenshots
	@$(BIN)/python -m tests.temporal_screenshots
	@$(BIN)/python -m tests.terminal_pictures

.PHONY: record-histories
record-histories: install ## Record a history of each workflow, for the tests to replay with later code.
	@$(BIN)/python -m tests.replay.record

.PHONY: lock
lock: install ## Resolve the dependencies of pyproject.toml anew into requirements.lock.
	@$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
		--no-header --no-emit-index-url --all-extras pyproject.toml --output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
		--no-header --no-emit-index-url --constraints requirements.lock bench/peers/requirements.in \
		--output-file bench/peers/requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
		--no-header --no-emit-index-url tests/openapi_client/requirements.in \
		--output-file tests/openapi_client/requirements.lock

.PHONY: clean
clean: ## Remove .venv and every cache; the data of `make run` in .loyalty-webhooks stays.
	@rm -rf $(VENV) $(PEERS) .venv-clients .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist .site
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
