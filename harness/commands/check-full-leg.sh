#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# One leg of make check-full, BASE-LEG, in $RESULTS/full/BASE-LEG. Leaves a line there in
# result: base, leg, status, cases that passed, failed and were skipped, seconds; and the
# same in done if nothing failed.
# Usage: FULL_LEGS=... harness/commands/check-full-leg.sh BASE-LEG

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/full-legs.sh"

base=${1%%-*} leg=${1#*-}
out=$RESULTS/full/$1
mkdir -p "$out"
rm -rf "$out/done" "$out/unpatched"
set -f
# shellcheck disable=SC2046 # words
set -- $(full_legs "$base" | awk -F '\t' -v leg="$leg" '$1 == leg { print $2, $3 }')

# What the reports in FILE are of, without places in functions, which move
titles() {
	cut -f2- "$1" | sed 's|+0x[0-9a-f]*/0x[0-9a-f]*||g' | sort -u
}

# excused COMMAND WORD...: only what the unpatched kernel reports too under the same tests
excused() {
	command=$1
	shift
	say "the unpatched kernel, beside it"
	mkdir -p "$out/unpatched"
	env BASE="$base" VARIANT=base DISKSEQ_NO_PROBE=1 OUT="$out/unpatched" \
		"$HARNESS/commands/$command.sh" "$@" >"$out/unpatched/log" 2>&1 || :
	[ -e "$out/unpatched/reports" ] || return 1
	titles "$out/unpatched/reports" >"$out/unpatched/known"
	! titles "$out/reports" | grep -v -x -F -f "$out/unpatched/known"
}

# The results of "N cases passed, N failed, N skipped", over all such lines
cases() {
	sed -n 's/^.*: \([0-9]*\) cases passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$1" |
		awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }'
}

say ""
say "== $base $leg: make $*"
command=$1
shift
begin=$(date +%s)
{
	status=0
	env BASE="$base" OUT="$out" "$HARNESS/commands/$command.sh" "$@" 2>&1 || status=$?
	echo "$status" >"$out/status"
} | tee "$out/log"
status=$(cat "$out/status")
[ "$status" != 130 ] || exit 130
read -r passed failed skipped <<END
$(cases "$out/log")
END
if [ "$status" = "$(status oops)" ] && [ -s "$out/reports" ] && excused "$command" "$@"; then
	status=0
fi
# A leg that failed in another way than by a case
[ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$base" "$leg" "$status" "$passed" "$failed" "$skipped" \
	$(($(date +%s) - begin)) >"$out/result"
[ "$status" = 0 ] || exit "$status"
cp "$out/result" "$out/done"
