#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Attaching and detaching for long, and thousands of devices at once: stress/soak.c,
# in a guest. Neither the kernel's memory nor the time of a cycle may grow.
# VARIANT= and DEBUG= as with "make run".
# Usage: harness/commands/soak.sh [NAME=VALUE...], with the variables of "make help-variables".

. "$(dirname "$0")/../lib/args.sh"

variables soak
# Twenty parts, of which each process does some.
[ "$CYCLES" -ge $((20 * PROCESSES)) ] ||
	die usage "CYCLES='$CYCLES' is less than 20 for each of $PROCESSES processes"
only_variables soak
export GUEST=soak GOAL=soak TIMEOUT="${TIMEOUT:-$((900 + CYCLES / 50))}"
exec "$HARNESS/commands/run.sh"
