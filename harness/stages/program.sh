#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Builds stress/$GUEST.c and puts it into $OUT/program, laid out as installed
# selftests are, for init to run. PROGRAM= is one that was built before, so that
# two kernels run the very same.

. "$(dirname "$0")/../lib/lib.sh"

: "${TREE:?}" "${OUT:?}"

folder=$OUT/program/stress
mkdir -p "$folder"
if [ -n "${PROGRAM:-}" ]; then
	cp "$PROGRAM" "$folder/$GUEST"
else
	gcc -static -pthread -O2 -Wall -Wextra -I"$TREE/tools/testing/selftests/block" -I"$STRESS" \
		-o "$folder/$GUEST" "$STRESS/$GUEST.c" >"$OUT/program.log" 2>&1 ||
		die_log build "$OUT/program.log" "stress/$GUEST.c does not build"
fi
echo "stress:$GUEST" >"$OUT/program/kselftest-list.txt"
# TIMEOUT= limits the whole.
echo "timeout=0" >"$folder/settings"
