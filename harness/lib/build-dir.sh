# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Where the kernel of this run lies and where it is built. Sourced after lib.sh,
# when BASE is known.

TREE=${WORKTREE:-$CACHE/tree/$BASE-${VARIANT%%-*}}
BUILD=$TREE/build
[ "$ARCH" = x86_64 ] || BUILD=$BUILD-$ARCH
BUILD=$BUILD${DEBUG:+-$(echo "$DEBUG" | tr , -)}
[ -z "${KERNEL:-}" ] || BUILD=$TREE/build-tests	# of the selftests alone
export TREE BUILD
