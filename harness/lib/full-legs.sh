# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# The legs of make check-full. Sourced after lib.sh.

# full_legs [BASE]: the lines of $FULL_LEGS that are for this base, or all of them
full_legs() {
	awk -F '\t' -v base="${1:-}" '!/^#/ && NF && (base == "" || $4 == "" || $4 == base)' "$FULL_LEGS"
}
