#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Boots a kernel that was not built here as often as it takes to run every test of
# $OUT/tests, one guest after the other: what hangs or crashes a guest costs its own
# program, and the next guest goes on after that. Leaves the results of all of them in
# $OUT/results, their consoles in $OUT/console.log.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/results.sh"

: "${OUT:?}"

: >"$OUT/results"
rm -rf "$OUT/guests"
FROM=
export FROM
number=0
while :; do
	number=$((number + 1))
	guest=$OUT/guests/$number
	mkdir -p "$guest"
	"$HARNESS/stages/boot.sh"
	mv "$OUT/results.tap" "$OUT/console.log" "$guest/"
	awk -f "$HARNESS/awk/tap.awk" "$guest/results.tap" >"$guest/results"
	ended=$(sed -n 's/^\(not \)\{0,1\}ok [0-9]* selftests: block: \([^ ]*\).*/\2/p' "$guest/results.tap" | tail -n 1)
	begun=$(sed -n 's/^# selftests: block: //p' "$guest/results.tap" | tail -n 1)
	grep -v -e '^complete$' -e '^truncated' "$guest/results" >>"$OUT/results" || :
	! grep -qx complete "$guest/results" || break
	if [ -z "$begun" ]; then
		[ "$number" = 1 ] || die truncated "guest $number began no test (see $guest/console.log)"
		# Nothing comes of more guests if the first one begins no test: why not?
		cp "$guest/results.tap" "$guest/console.log" "$OUT/"
		exec "$HARNESS/stages/results.sh"
	fi
	if [ "$begun" != "$ended" ]; then
		why=$(panic_in "$guest/console.log")
		[ -n "$why" ] || case $(cat "$OUT/verdict" 2>/dev/null) in
		timeout) why="the guest was still running after ${TIMEOUT:-900} s" ;;
		*) why="the guest went away" ;;
		esac
		printf 'fail\t%s\t%s - %s\n' "$begun" "$begun" "$why" >>"$OUT/results"
		# Beside others (spread.sh) that ends what the program printed.
		[ -z "${GUEST_NUMBER:-}" ] ||
			printf "$GUEST_NUMBER %s\n" "not ok 0 selftests: block: $begun # $why" "# time: $begun, unknown"
	fi
	FROM=$(sed -n "/^$begun\$/{ n; p; }" "$OUT/tests")
	[ -n "$FROM" ] || break
	say "  $begun ended its guest: the next one goes on with $FROM"
done
cat "$OUT"/guests/*/console.log >"$OUT/console.log"
awk '{ if (!($1 in takes)) order[++n] = $1; takes[$1] += $2 }
	END { for (i = 1; i <= n; i++) printf "%-10s %7.1f s\n", order[i], takes[order[i]] }' \
	"$OUT/times" >"$OUT/times.new"
mv "$OUT/times.new" "$OUT/times"
cat "$OUT"/guests/*/results.tap >"$OUT/results.tap"
