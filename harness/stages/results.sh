#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Prints the result of the guest that ran in $OUT, or of those that ran in $OUT/guest-N
# side by side, from what they left there: results.tap, console.log and verdict (of
# boot.sh). The cases go to $OUT/results.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/topics.sh"
. "$HARNESS/lib/results.sh"

: "${OUT:?}"

awk -f "$HARNESS/awk/tap.awk" "$OUT/results.tap" >"$OUT/results"
if [ -n "${WORKTREE:-}" ]; then
	git -C "$WORKTREE" diff base 2>/dev/null || :
else
	series "$BASE" | xargs -d '\n' cat
fi | awk -f "$HARNESS/awk/touched.awk" | sort -u >"$OUT/touched"
awk -v known="$HARNESS/tables/known-reports" -v touched="$OUT/touched" \
	-f "$HARNESS/awk/reports.awk" "$OUT/console.log" >"$OUT/reports"
# The verdict comes from here, whatever the decoder has to say.
[ ! -s "$OUT/reports" ] || "$HARNESS/stages/decode.sh" || :

passed=$(count pass "$OUT/results")
failed=$(count fail "$OUT/results")
skipped=$(count skip "$OUT/results")

# fail NAME MESSAGE: with the end of the console
fail() {
	fail_name=$1
	shift
	echo "  the last lines of the console:" >&2
	tail -n 20 "$guest/console.log" | tr -d '\r' | sed 's/^/    /' >&2
	die "$fail_name" "$*"
}

# The guest in the folder $guest came to the end of its tests.
came_to_the_end() {
	# The test that was running, from the console: it has that even after a crash.
	running=$(tr -d '\r' <"$guest/console.log" | sed -n 's/.*diskseq: test //p' | tail -n 1)
	verdict=$(cat "$guest/verdict" 2>/dev/null || :)
	panic=$(panic_in "$guest/console.log")

	if [ -n "$panic" ] && [ -z "$running" ]; then
		fail panic "the kernel panicked before the first test: $panic"
	elif [ -n "$panic" ]; then
		fail oops "the kernel panicked during $running: $panic"
	elif [ "$verdict" = boot ]; then
		fail boot "the guest did not come to the first test within ${BOOT_TIMEOUT:-60} s"
	elif [ ! -s "$guest/results.tap" ]; then
		fail boot "the guest went away before the first test"
	elif [ "$verdict" = timeout ]; then
		fail timeout "the tests did not end within ${TIMEOUT:-900} s; $running was running"
	elif ! awk -f "$HARNESS/awk/tap.awk" "$guest/results.tap" | grep -qx complete; then
		fail truncated "the guest went away during ${running:-the tests}: its results are truncated"
	fi

	# A detector that gave up, for want of memory, would find no leak.
	case ,${DEBUG:-}, in
	*,kasan,*)
		grep -q '^kmemleak: scanned' "$guest/console.log" ||
			fail truncated "the kernel was not scanned for memory leaks" ;;
	esac
}

each_guest() {
	for guest in "$OUT"/guest-*; do
		[ -d "$guest" ] || guest=$OUT
		"$@"
	done
}

# A panic says more than that another guest took too long.
any_panic() {
	[ -z "$(panic_in "$guest/console.log")" ] || came_to_the_end
}
each_guest any_panic
each_guest came_to_the_end
# Each guest ran what it took for its tests: it is the programs of all that count.
grep -qx complete "$OUT/results" || die truncated "a test was run by none of the guests"

sed -n 's/^skip	\([^	]*\)	/  skipped: \1: /p' "$OUT/results"
sed -n 's/^fail	\([^	]*\)	/  failed:  \1: /p' "$OUT/results"
sed 's/^\([^	]*\)	/  kernel report during \1: /' "$OUT/reports"
races=$(($(grep -c 'BUG: KCSAN: ' "$OUT/console.log" || :) - $(grep -c 'BUG: KCSAN: ' "$OUT/reports" || :)))
[ "$races" = 0 ] || say "  $races data races in code that the series does not touch: not counted"
arch=
# shellcheck disable=SC2153 # lib.sh sets it
[ "$ARCH" = x86_64 ] || arch=" $ARCH"
say "$BASE ${WORKTREE:-$VARIANT}${SUITE:+ $SUITE}$arch${DEBUG:+ $DEBUG}: $passed cases passed, $failed failed, $skipped skipped"

[ ! -s "$OUT/reports" ] ||
	die oops "the kernel reported a bug during $(cut -f1 "$OUT/reports" | sort -u | tr '\n' ' ')(see console.log)"
[ "$failed" = 0 ] || die failed "$failed of $((passed + failed + skipped)) test cases failed"
[ "$passed" != 0 ] || die nothing "no test was executed, or every one was skipped"
