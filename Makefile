# SPDX-License-Identifier: GPL-2.0
# The commands. Each is a script of harness/, which does the work and explains
# itself; variables given to make reach it through the environment.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export BASE KSRC TEST REPEAT ARCH SMP DEBUG ACCEL TIMEOUT BOOT_TIMEOUT APPEND V NO_INSTALL
export DISKSEQ_CYCLES WORKTREE VARIANT TOPIC GUEST
export WAY ATTACHES PROCESSES LOOPS BUFFER LIMIT ITEM ROUNDS LEG SEED OPERATIONS CYCLES MANY CROSS

.PHONY: help run userland race bench fuzz soak cross check check-full lint prefixes shell fetch tree export clean distclean

help:
	@harness/help.sh

run:
	@harness/run.sh

userland:
	@GOAL=userland GUEST=userland harness/run.sh

race:
	@harness/race.sh

bench:
	@harness/bench.sh

fuzz:
	@harness/fuzz.sh

soak:
	@harness/soak.sh

cross:
	@harness/cross.sh

check:
	@harness/check.sh

check-full:
	@harness/check-full.sh

lint:
	@harness/lint.sh

# Each topic by itself, patch by patch: long, for whoever changed one.
prefixes:
	@harness/prefixes.sh

shell:
	@GOAL=shell SHELL_ONLY=1 WITH_SHELL=1 harness/run.sh

fetch:
	@harness/fetch.sh

tree:
	@harness/worktree.sh

export:
	@harness/export.sh

# Kernels and logs go, sources stay.
clean:
	@harness/clean.sh

distclean:
	@harness/clean.sh all
