# Delegates only: no compile rule here. `make` needs nothing but git, make and the right to install packages; see scripts/packages.
#   BUILD=DIR            where everything goes (default build/)
#   TANDEM_INSTALL=no    never install packages, report what is missing
BUILD ?= $(CURDIR)/build
override BUILD := $(abspath $(BUILD))
PYTHON := /usr/bin/python3
PG_CONFIG ?= /usr/lib/postgresql/15/bin/pg_config
VERSION := $(shell sed -n 's/^  "version": "\(.*\)",/\1/p' META.json)
export TANDEM_BUILD := $(BUILD)

# All cores, unless the caller said how many jobs (make -j1).
jobs = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
delegate = +$(MAKE) --no-print-directory $(jobs) -C $(1) BUILD=$(BUILD)/$(1) PG_CONFIG=$(PG_CONFIG) $(2)

.PHONY: all install stage installcheck unit unit-build model integration faults check demo bench format lint clean distclean packages-build packages-test
.DEFAULT_GOAL := all

packages-build:
	@scripts/packages build

packages-test:
	@scripts/packages build test

all: packages-build
	$(call delegate,extension,all)
	$(call delegate,worker,all)

install: all
	$(call delegate,extension,install)
	$(call delegate,worker,install)

# What the tests run: an installation inside the build folder, so that nothing of the system is touched.
stage: all
	@rm -rf $(BUILD)/stage
	$(call delegate,extension,install DESTDIR=$(BUILD)/stage >$(BUILD)/stage.log)
	$(call delegate,worker,install DESTDIR=$(BUILD)/stage >>$(BUILD)/stage.log)

installcheck: packages-test stage
	$(PYTHON) tests/regress/run

# After `all`, not beside it: both make the worker's objects.
unit-build: packages-test all
	$(call delegate,worker,$(BUILD)/worker/unit-tests)

unit: packages-test
	$(call delegate,worker,unit)

model: packages-test
	docs/model/check.sh

integration: packages-test stage
	$(PYTHON) -m pytest -q -rf -p no:cacheprovider tests/integration

faults: packages-test stage
	$(PYTHON) -m pytest -q -rf -p no:cacheprovider tests/faults

check: packages-test
	$(PYTHON) scripts/check

demo: packages-test stage
	$(PYTHON) demo/run

bench: packages-test stage
	bench/run

format: packages-test
	scripts/format

lint: packages-test
	scripts/lint

clean:
	find $(BUILD) -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} + 2>/dev/null || true

distclean:
	rm -rf $(BUILD)
