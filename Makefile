# SPDX-License-Identifier: GPL-2.0
# The commands. Each is a script of harness/, which does the work and explains
# itself; variables given to make reach it through the environment.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export $(shell awk -F '\t' '!/^\#/ { print $$1 }' harness/tables/variables)

.PHONY: help help-variables run userland race bench fuzz soak cross check check-full compare lint prefixes shell fetch tree export clean distclean

help:
	@harness/commands/help.sh

help-variables:
	@harness/commands/help.sh variables

run:
	@harness/commands/run.sh

userland:
	@GOAL=userland GUEST=userland harness/commands/run.sh

race:
	@harness/commands/race.sh

bench:
	@harness/commands/bench.sh

fuzz:
	@harness/commands/fuzz.sh

soak:
	@harness/commands/soak.sh

cross:
	@harness/commands/cross.sh

check:
	@harness/commands/check.sh

check-full:
	@harness/commands/check-full.sh

# Debian's kernels beside the one with the series
compare:
	@harness/commands/compare.sh

lint:
	@harness/commands/lint.sh

# Each topic by itself, patch by patch; takes hours.
prefixes:
	@harness/commands/prefixes.sh

shell:
	@GOAL=shell SHELL_ONLY=1 harness/commands/run.sh

fetch:
	@harness/stages/fetch.sh

tree:
	@harness/commands/worktree.sh

export:
	@harness/commands/export.sh

# Kernels and logs go, sources stay.
clean:
	@harness/commands/clean.sh

distclean:
	@harness/commands/clean.sh all
