# Shared by the Makefiles of both halves: the version, and the warnings that are errors.
COMMON_DIR := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
TANDEM_VERSION := $(shell sed -n 's/^  "version": "\(.*\)",/\1/p' $(COMMON_DIR)/META.json)
ifeq ($(TANDEM_VERSION),)
$(error no version found in $(COMMON_DIR)/META.json)
endif
TANDEM_WARNINGS := -Wall -Wextra -Wpedantic -Werror
