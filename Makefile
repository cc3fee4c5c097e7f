# make demo         a local stack with sample data: embedded Postgres and Redis, worker, service
# make quick        the checks, unit tests, one pass over SQL and HTTP; its servers stay up
# make quick-stop   stops the servers of make quick
# make check        format, lint, types, import contracts
# make format       formats, and fixes what the linter can fix
# make test         the checks, and all tests but the slow ones
# make test-slow    the slow tests: the page in a browser, a second Postgres, drills under load, rarer cases
# make test-long    the random tests of the rollup and of the OpenAPI document, for about half an hour
# make sql          renders sql/chat_stats.sql from the templates
# make docs         the documentation as a site in build/site/site, with strict links and search
# make screenshots  the screenshots of the page in docs/screenshots, with the Chromium on PATH
# make bench        what each method costs; bench-rollup, bench-serve, bench-explorer, bench-dimensions: docs/benchmarks.md
# make clean        removes the environment, the demo's data and what was built

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin

# One pass over SQL and HTTP: the functions, the routes, the path of a hit and of a refresh.
QUICK = tests/unit tests/sql/test_functions.py \
	tests/integration/test_http.py tests/integration/test_http_refusals.py tests/integration/test_http_headers.py \
	tests/integration/test_fast_path.py tests/integration/test_refresh.py

.PHONY: demo quick quick-stop check format test test-slow test-long sql docs screenshots clean \
	bench bench-rollup bench-serve bench-explorer bench-dimensions

demo: $(VENV)/.installed
	@$(BIN)/chat-stats demo

quick: $(VENV)/.installed check
	CHAT_STATS_KEEP_SERVERS=1 $(BIN)/pytest -q -m "not slow" --numprocesses 2 --dist worksteal $(QUICK)

quick-stop: $(VENV)/.installed
	$(BIN)/python -m tests.kept_servers stop

test: $(VENV)/.installed check
	$(BIN)/pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder
	@$(BIN)/python -m tests.tools

test-slow: $(VENV)/.installed
	$(BIN)/pytest -m "slow and not alone" --numprocesses 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/pytest -m alone
	@$(BIN)/python -m tests.tools

test-long: $(VENV)/.installed
	CHAT_STATS_STATE_MACHINE_STEPS=50000 CHAT_STATS_CONCURRENCY_SECONDS=60 \
		$(BIN)/pytest tests/rollup/test_state_machine.py tests/rollup/test_concurrency.py
	CHAT_STATS_TESTS_CITUS_STEPS=5000 $(BIN)/pytest -m slow tests/scale/test_citus_rollup.py -k after_any_steps
	CHAT_STATS_OPENAPI_EXAMPLES=200 $(BIN)/pytest tests/openapi/test_schemathesis.py

screenshots: $(VENV)/.installed
	CHAT_STATS_SCREENSHOTS=docs/screenshots $(BIN)/pytest tests/browser/test_screenshots.py

sql: $(VENV)/.installed
	$(BIN)/python -m chat_stats.service.database.rendering

SITE ?= build/site
docs: $(VENV)/.installed
	rm -rf $(SITE)
	mkdir -p $(SITE)/pages
	cp zensical.toml $(SITE)
	cp -r README.md CHANGELOG.md CONTRIBUTING.md docs $(SITE)/pages
	$(BIN)/zensical build --strict --config-file $(SITE)/zensical.toml

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed
	$(BIN)/python -m bench.methods

bench-rollup: $(VENV)/.installed
	$(BIN)/python -m bench.rollup

bench-serve: $(VENV)/.installed
	$(BIN)/python -m bench.serve

bench-explorer: $(VENV)/.installed
	$(BIN)/python -m bench.explorer

bench-dimensions: $(VENV)/.installed
	$(BIN)/python -m bench.dimensions

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "chat-stats needs Python 3.11, 3.12 or 3.13, and found none on PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	test ! -d .quick || $(BIN)/python -m tests.kept_servers stop
	rm -rf $(VENV) .demo build .mypy_cache .pytest_cache .ruff_cache
