# Everything below runs from one environment, .venv, made of hash-checked packages from the package index.
# A second run finds it made and starts at once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := $(shell sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements-dev.txt)
BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes
AZURITE := tests/azurite/node_modules/.package-lock.json
SERVER_PACKAGES := ceph-mon ceph-mgr ceph-osd radosgw ceph-common postgresql mariadb-server-core mariadb-client-core \
	libeatmydata1 chromium
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

export PYTHONPATH := $(CURDIR)/include:$(CURDIR)/plugins
# Airflow imports three times as fast with byte code, so nothing may forbid it.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo up down test test-whole test-parts test-registry test-servers test-mysql test-long lint format lock runbooks bench clean

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1 — /p' Makefile

demo: .venv/ready  ## protect a real AI workload, destroy it, bring it back
	$(BIN)/python -m muster.demo

up: .venv/ready  ## start the demo's platform and leave it running
	@$(BIN)/python -m muster.demo up

down: .venv/ready  ## end what `make up` started
	@$(BIN)/python -m muster.demo down

test: .venv/ready  ## all tests that need nothing but the package index; in three parts, side by side
	$(MAKE) --no-print-directory --jobs 3 --keep-going test-whole test-parts test-registry

test-whole: .venv/ready
	$(BIN)/python -m pytest -m "not servers" tests/airflow tests/faults

test-parts: .venv/ready
	$(BIN)/python -m pytest -m "not servers" --ignore tests/airflow --ignore tests/faults --ignore tests/unit \
		--ignore-glob '*/integration/test_registry*'

test-registry: .venv/ready
	$(BIN)/python -m pytest -m "not servers" tests/unit $(wildcard tests/integration/test_registry*.py)

test-servers: .venv/ready $(AZURITE)  ## tests against Ceph, PostgreSQL, MariaDB, Azurite, a GCS emulator and OpenBao; installs them, fails without them
	dpkg -s $(SERVER_PACKAGES) > /dev/null 2>&1 || { $(SUDO) apt-get update -q && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(SERVER_PACKAGES); }
	$(BIN)/python -m pytest -m servers

test-mysql: .venv/ready  ## what `make test-servers` asks of MariaDB, asked of MySQL's own server, which is fetched for it from Debian unstable
	tests/with_mysql.sh $(BIN)/python -m pytest -m servers -k "mariadb or mysql"

test-long: .venv/ready  ## every bit of every object of a vault, and the model of a vault for long: some hours
	MUSTER_FAULTS_LONG=1 $(BIN)/python -m pytest --override-ini timeout=0 tests/faults/test_every_byte.py tests/faults/test_model.py

$(AZURITE): tests/azurite/package-lock.json
	npm ci --silent --no-fund --no-audit --ignore-scripts --prefix tests/azurite
	touch $@

lint: .venv/ready  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=include:plugins $(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready  ## let ruff lay out the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/ready  ## pin anew what the *.in files ask for
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) -c requirements.txt requirements-rescue.in -o requirements-rescue.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt
	$(COMPILE) --no-deps tests/secrets_backends.in -o tests/secrets_backends.txt
	$(COMPILE) -c requirements.txt include/muster/demo/model-environment.in -o include/muster/demo/model-environment.lock

runbooks: .venv/ready  ## render docs/runbooks anew from the catalog
	PYTHONPATH=include $(BIN)/python -m muster runbook --all --catalog-only --out docs/runbooks

bench: .venv/ready  ## side by side with restic, DVC, tar, mlflow-export-import and a recovery by hand, on the same work
	$(BIN)/python benchmarks/vault_vs_peers.py
	if [ -x /usr/bin/radosgw ]; then $(BIN)/python benchmarks/vault_vs_peers.py --s3 --shape 8x64MiB --shape 5000x10KiB; fi
	$(BIN)/python benchmarks/snapshot_vs_dvc.py
	$(BIN)/python benchmarks/registry_growth.py --exporter
	$(BIN)/python benchmarks/recovery_vs_naive.py

clean: down  ## remove what was made here, except for the package cache
	rm -rf .venv .state .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build tests/azurite/node_modules

.venv/ready: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Muster needs Python 3.11 or newer; name one: make PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements-dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@
