#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Random ioctls by privileged and unprivileged processes: stress/fuzz.c, in a guest.
# SEED= makes the same calls again; without it they are others each time, and the
# seed is said. VARIANT= and DEBUG= as with "make run".
# Usage: harness/commands/fuzz.sh [NAME=VALUE...], with the variables of "make help".

. "$(dirname "$0")/../lib/args.sh"

OPERATIONS=${OPERATIONS:-200000}
PROCESSES=${PROCESSES:-8}
SEED=${SEED:-$(date +%s)}
above_zero SEED OPERATIONS PROCESSES
at_most 100000000 OPERATIONS
at_most 200 PROCESSES
[ "${#SEED}" -le 18 ] || die usage "SEED='$SEED' has more than 18 digits"
say "seed: $SEED"
unset TEST REPEAT SHELL_ONLY
export GUEST=fuzz GOAL=fuzz SEED OPERATIONS PROCESSES \
	TIMEOUT="${TIMEOUT:-$((900 + OPERATIONS / 100))}"
exec "$HARNESS/commands/run.sh"
