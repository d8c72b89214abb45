#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Attaching and detaching for long, and thousands of devices at once: stress/soak.c,
# in a guest. Neither the kernel's memory nor the time of a cycle may grow.
# VARIANT= and DEBUG= as with "make run".
# Usage: harness/commands/soak.sh [NAME=VALUE...], with the variables of "make help".

. "$(dirname "$0")/../lib/args.sh"

CYCLES=${CYCLES:-1000000}
LOOPS=${LOOPS:-64}
PROCESSES=${PROCESSES:-4}
MANY=${MANY:-4096}
above_zero CYCLES LOOPS PROCESSES MANY
at_most 1000000000 CYCLES
at_most 200 LOOPS PROCESSES
at_most 8192 MANY
# Twenty parts, of which each process does some.
[ "$CYCLES" -ge $((20 * PROCESSES)) ] ||
	die usage "CYCLES='$CYCLES' is less than 20 for each of $PROCESSES processes"
unset TEST REPEAT SHELL_ONLY
export GUEST=soak GOAL=soak CYCLES LOOPS PROCESSES MANY \
	TIMEOUT="${TIMEOUT:-$((900 + CYCLES / 50))}"
exec "$HARNESS/commands/run.sh"
