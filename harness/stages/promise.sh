#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Prints what a kernel that was tested as it is (KERNEL=) keeps of the promise, from what
# its guests left in $OUT: a line for each of the contract's and for each known defect.
# The same, with the cases behind it, goes to $OUT/promise.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/stock.sh"
. "$HARNESS/lib/results.sh"

: "${OUT:?}"

lost=$(cut -f2 "$OUT/results" | grep -vxFf - "$OUT/tests" | xargs)
[ -z "$lost" ] || die truncated "no results of $lost"

promise "$OUT"
awk -v known="$HARNESS/tables/known-reports" -f "$HARNESS/awk/reports.awk" "$OUT/console.log" >"$OUT/reports"

passed=$(count pass "$OUT/results")
failed=$(count fail "$OUT/results")
skipped=$(count skip "$OUT/results")

sed -n 's/^fail	\([^	]*\)	/  failed:  \1: /p' "$OUT/results"
sed 's/	/: /' "$OUT/reports" | sort | uniq -c |
	awk '{ n = $1; sub(/^ *[0-9]+ /, ""); print "  kernel report" (n > 1 ? ", " n " times" : "") " during " $0 }'
awk -F '\t' '
	{
		text = $5
		if (length(text) > 80)
			text = substr(text, 1, 77) "..."
		printf "  %-4s %-9s  %s\n", $1, $2, text
		n[$2]++
	}
	END {
		printf "%d kept, %d broken, %d not asked\n", n["kept"], n["broken"], n["not asked"]
	}' "$OUT/promise" >"$OUT/promise.txt"
say "what Linux $(cat "$OUT/release") keeps of the promise (C: its parts, D: doc/defects.rst):"
cat "$OUT/promise.txt"
say "$(cat "$OUT/release"): $passed cases passed, $failed failed, $skipped skipped; by row: $OUT/promise"
[ "$passed$failed" != 00 ] || die nothing "no test was executed, or every one was skipped"
