#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Prints the tests that PATTERN[,PATTERN...] names: the selftests of $TREE, as
# their own makefile lists them, or the Debian guest's. Stops at a pattern that
# names none.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/kbuild.sh"

: "${TREE:?}"

case $GUEST in
kselftest)
	[ -d "$TREE/tools/testing/selftests/block" ] ||
		die nothing "there are no selftests in $TREE/tools/testing/selftests/block"
	# Which there are depends on what the compiler can build.
	need_compiler
	tests=$(kmake -s --no-print-directory -C tools/testing/selftests/block \
		CC="$arch_cc -static" OUTPUT=/ COLLECTION=block emit_tests 2>/dev/null | sed -n 's/^block://p') ;;
userland)
	tests=$(find "$USERLAND/tests" -type f -printf '%f\n' | sort) ;;
*)	tests=$GUEST ;;
esac

set -f
for pattern in $(echo "$1" | tr , ' '); do
	found=
	for test in $tests; do
		# shellcheck disable=SC2254 # it is a pattern
		case $test in
		$pattern)
			echo "$test"
			found=1 ;;
		esac
	done
	[ -n "$found" ] ||
		die usage "no test is named '$pattern' (there are: $(echo "$tests" | tr '\n' ' '))"
done
