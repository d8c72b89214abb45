#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Builds bench/$GUEST.c and puts it into $OUT/program, laid out as installed
# selftests are, for init to run. PROGRAM= is one that was built before, so that
# two kernels run the very same.

. "$(dirname "$0")/lib.sh"

: "${TREE:?}" "${OUT:?}"

folder=$OUT/program/bench
mkdir -p "$folder"
if [ -n "${PROGRAM:-}" ]; then
	cp "$PROGRAM" "$folder/$GUEST"
else
	gcc -static -pthread -O2 -Wall -Wextra -I"$TREE/tools/testing/selftests/block" -I"$BENCH" \
		-o "$folder/$GUEST" "$BENCH/$GUEST.c" >"$OUT/program.log" 2>&1 ||
		die_log build "$OUT/program.log" "bench/$GUEST.c does not build"
fi
echo "bench:$GUEST" >"$OUT/program/kselftest-list.txt"
# TIMEOUT= limits the whole.
echo "timeout=0" >"$folder/settings"
