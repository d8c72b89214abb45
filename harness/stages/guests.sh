#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Boots a kernel that was not built here as often as it takes to run every test of
# $OUT/tests, one guest after the other: what hangs or crashes a guest costs its own
# program (with REPEAT=, the rest of its rounds too), and the next guest goes on after that.
# Leaves the results of all of them in $OUT/results, their consoles in $OUT/console.log.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/results.sh"

: "${OUT:?}"

: >"$OUT/results"
: >"$OUT/consoles"
: >"$OUT/taps"
rm -rf "$OUT/guests"
FROM=
export FROM
number=0
while :; do
	number=$((number + 1))
	guest=$OUT/guests/$number
	mkdir -p "$guest"
	# In the background, so that this script can be stopped meanwhile
	"$HARNESS/stages/boot.sh" &
	child=$!
	wait "$child"
	child=
	mv "$OUT/results.tap" "$OUT/console.log" "$guest/"
	cat "$guest/console.log" >>"$OUT/consoles"
	begun=$(sed -n 's/^# selftests: block: //p' "$guest/results.tap")
	last=$(echo "$begun" | tail -n 1)
	if [ -n "$begun" ] &&
	   [ "$(echo "$begun" | wc -l)" != "$(grep -cE '^(not )?ok [0-9]+ selftests: block: ' "$guest/results.tap")" ]; then
		why=$(panic_in "$guest/console.log")
		[ -n "$why" ] || case $(cat "$OUT/verdict" 2>/dev/null) in
		timeout) why="the guest was still running after ${TIMEOUT:-900} s" ;;
		*) why="the guest went away" ;;
		esac
		line="not ok 0 selftests: block: $last # $why"
		printf '\n%s\n' "$line" >>"$guest/results.tap"
		# join.awk prints what a program has printed when its "# time:" comes.
		printf "${GUEST_NUMBER:+$GUEST_NUMBER }%s\n" "$line" "# time: $last unknown"
	fi
	cat "$guest/results.tap" >>"$OUT/taps"
	awk -f "$HARNESS/awk/tap.awk" "$guest/results.tap" >"$guest/results"
	grep -v -e '^complete$' -e '^truncated' "$guest/results" >>"$OUT/results" || :
	! grep -qx complete "$guest/results" || break
	if [ -z "$begun" ]; then
		cp "$OUT/consoles" "$OUT/console.log"
		[ "$number" = 1 ] || die truncated "guest $number began no test (see $guest/console.log)"
		# If the first guest begins no test, the next one will not either.
		# results.sh reports why.
		cp "$guest/results.tap" "$OUT/"
		exec "$HARNESS/stages/results.sh"
	fi
	FROM=$(sed -n "/^$last\$/{ n; p; }" "$OUT/tests")
	[ -n "$FROM" ] || break
	say "  $last ended its guest: the next one goes on with $FROM"
done
mv "$OUT/consoles" "$OUT/console.log"
mv "$OUT/taps" "$OUT/results.tap"
awk '{ if (!($1 in takes)) order[++n] = $1; takes[$1] += $2 }
	END { for (i = 1; i <= n; i++) printf "%-10s %7.1f s\n", order[i], takes[order[i]] }' \
	"$OUT/times" >"$OUT/times.new"
mv "$OUT/times.new" "$OUT/times"
