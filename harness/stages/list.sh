#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Prints the tests that PATTERN[,PATTERN...] names, in the order in which they run: the
# selftests of $TREE, as their own makefile lists them, or the Debian guest's. Stops at
# a pattern that names none.

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
patterns=$(echo "$1" | tr , ' ')

# names PATTERN TEST
names() {
	# shellcheck disable=SC2254 # it is a pattern
	case $2 in
	$1) ;;
	*) return 1 ;;
	esac
}

for pattern in $patterns; do
	found=
	for test in $tests; do
		! names "$pattern" "$test" || found=1
	done
	[ -n "$found" ] ||
		die usage "no test is named '$pattern' (there are: $(echo "$tests" | tr '\n' ' '))"
done
for test in $tests; do
	for pattern in $patterns; do
		! names "$pattern" "$test" || { echo "$test"; break; }
	done
done
