# Two commands need no other set-up: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help run test older unit lint format lock bench syslog-bench syslog-loss compare ledger frozen faults spool forward-bench clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(INSTALLED): requirements-dev.lock pyproject.toml
	@echo "installing into $(VENV), once: about half a minute"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(INSTALLED) ## start a broker and the gateway, print a curl line, show events arriving
	@$(BIN)/python -m deploy.local

# Two at a time, but for those that share a broker: many of these look at how long something takes.
ABREAST := -n 2 --dist loadfile --no-loadscope-reorder
SHARING := real_kafka and not disturbs

test: $(INSTALLED) ## all tests, fast ones first
	@status=0; set -x; \
	$(BIN)/pytest tests -m "not ($(SHARING)) $(ALSO)" $(ABREAST) || status=1; \
	$(BIN)/pytest tests -m "$(SHARING) $(ALSO)" || status=1; \
	exit $$status

older: ## all tests that need a Kafka, on Kafka 3.9
	TEST_KAFKA_VERSION=3.9.2 $(MAKE) test ALSO="and (kafka or real_kafka)"

unit: $(INSTALLED) ## the tests that need no Kafka: seconds
	$(BIN)/pytest tests -m "not kafka and not real_kafka"

bench: $(INSTALLED) ## CPU per event, next to a bare producer; records under loadtest/results/
	$(BIN)/python -m loadtest.benchmark --record

syslog-bench: $(INSTALLED) ## CPU per syslog message, next to a bare producer; records too
	$(BIN)/python -m loadtest.syslog_benchmark --record

syslog-loss: $(INSTALLED) ## UDP at rising rates: sent = delivered + counted as dropped; records too
	$(BIN)/python -m loadtest.syslog_loss --record

forward-bench: $(INSTALLED) ## CPU per record forwarded, next to a bare producer; records too
	$(BIN)/python -m loadtest.forward_benchmark --record

compare: $(INSTALLED) ## CPU per event, next to that of another commit: make compare BEFORE=COMMIT
	$(BIN)/python -m loadtest.compare $(BEFORE) --record

ledger: $(INSTALLED) ## send, read back, compare: nothing acknowledged may be missing
	$(BIN)/python -m loadtest.ledger --seconds 20 --connections 16 --record

frozen: $(INSTALLED) ## a worker's memory at full load while Kafka stands still
	$(BIN)/python -m loadtest.frozen --record

faults: $(INSTALLED) ## kills and broker faults under load, as long as asked: make faults SECONDS=600 SEED=1
	$(BIN)/python -m loadtest.campaign --seed $(or $(SEED),1) --seconds $(or $(SECONDS),300) $(OPTIONS)

spool: $(INSTALLED) ## the spool at full load: its cost, how it fills and drains; records too
	$(BIN)/python -m loadtest.spool --record

lint: $(INSTALLED) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED) ## rewrite the files as ruff wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(INSTALLED) ## resolve the dependencies anew
	$(PYTHON) -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv
	.cache/uv/bin/uv pip compile --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 pyproject.toml -o requirements.lock --quiet
	.cache/uv/bin/uv pip compile --upgrade --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--python-version 3.11 --group dev pyproject.toml -o requirements-dev.lock --quiet

clean: ## remove what the other targets made
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache
