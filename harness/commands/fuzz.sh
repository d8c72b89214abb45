#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Random ioctls by privileged and unprivileged processes: stress/fuzz.c, in a guest.
# SEED= makes the same calls again; without it each run makes others, and prints its
# seed. VARIANT= and DEBUG= as with "make run".
# Usage: harness/commands/fuzz.sh [NAME=VALUE...], with the variables of "make help-variables".

. "$(dirname "$0")/../lib/args.sh"

SEED=${SEED:-$(date +%s)}
variables fuzz
[ "${#SEED}" -le 18 ] || die usage "SEED='$SEED' has more than 18 digits"
say "seed: $SEED"
only_variables fuzz
export GUEST=fuzz GOAL=fuzz SEED TIMEOUT="${TIMEOUT:-$((900 + OPERATIONS / 100))}"
exec "$HARNESS/commands/run.sh"
