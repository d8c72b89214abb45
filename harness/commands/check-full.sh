#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The tests under stress, for each base whose source can be had: the legs of
# harness/tables/full-legs. Says first what it will run and how long that took last time,
# and ends with a table. What was stopped goes on, with the next call, where it
# was, as long as neither patches nor harness have changed. LEG= runs only some legs,
# whatever was run before; BASE= runs one base's. What they ran the next call without
# them need not run again: so it can be done in parts, and both bases side by side.
# Usage: harness/commands/check-full.sh [NAME=VALUE...], with LEG= and BASE=.

. "$(dirname "$0")/../lib/args.sh"

FULL_LEGS=${FULL_LEGS:-$HARNESS/tables/full-legs}
tab=$(printf '\t')
table() {
	grep -v -e '^#' -e '^$' "$FULL_LEGS"
}

only=$(echo "${LEG:-}" | tr , ' ')
names=$(table | cut -f1 | uniq | xargs)
for name in $only; do
	case " $names " in
	*" $name "*) ;;
	*) die usage "unknown LEG '$name' (there are: $names)" ;;
	esac
done
[ -z "${BASE:-}" ] || known_base "$BASE"
only_base=${BASE:-}
only_variables check-full
unset BASE OUT

results_dir full
FULL=$results_dir
mkdir -p "$CACHE/full" 2>/dev/null || die disk "cannot make $CACHE/full"
# One line a leg that came to an end: key, base, leg, status, passed, failed,
# skipped, seconds. Those of this call's table; those since the last whole call; and
# all that ever were, for the times.
results=$FULL/results
ended=$CACHE/full/ended
times=$CACHE/full/times
touch "$ended" "$times"
key=$(cd "$TOP" && find "$PATCHES" "$HARNESS" "$STRESS" -type f -exec sha256sum {} + |
	sort | sha256sum | cut -d' ' -f1)
lock 8 "check-full${only_base:+-$only_base}"

# The last line of FILE for BASE and LEG, and with KEY only one that has it.
# line FILE BASE LEG [KEY]
line() {
	awk -F '\t' -v base="$2" -v leg="$3" -v key="${4:-}" '
		$2 == base && $3 == leg && (key == "" || $1 == key) { line = $0 }
		END { if (line == "") exit 1; print line }' "$1"
}

took() {
	if took=$(line "$times" "$1" "$2"); then
		echo "${took##*"$tab"} s last time"
	else
		echo "not run yet"
	fi
}

for base in $(bases); do
	[ -z "$only_base" ] || [ "$base" = "$only_base" ] || continue
	if ! BASE=$base "$HARNESS/stages/fetch.sh"; then
		say "skip    $base: no source"
		continue
	fi
	table | while IFS=$tab read -r leg goal words only_for; do
		[ "${only_for:-$base}" = "$base" ] || continue
		case " ${only:-$leg} " in
		*" $leg "*) ;;
		*) continue ;;
		esac
		if [ -z "$only" ] && line "$ended" "$base" "$leg" "$key" >>"$results"; then
			say "done    $base $leg" >&3
			continue
		fi
		say "to run  $base $leg: make $goal $words ($(took "$base" "$leg"))" >&3
		printf '%s\t%s\t%s\t%s\n' "$base" "$leg" "$goal" "$words"
	done 3>&1 >>"$FULL/plan"
done
[ -e "$FULL/plan" ] || die source "no base could be tested: no source"

# What the unpatched kernel reports under the same tests too does not count.
# excused STATUS COMMAND WORD...
excused() {
	[ "$1" = "$(status oops)" ] && [ -s "$out/reports" ] || return 1
	command=$2
	shift 2
	say "the unpatched kernel, beside it"
	mkdir -p "$out/unpatched"
	env BASE="$base" VARIANT=base DISKSEQ_NO_PROBE=1 OUT="$out/unpatched" \
		"$HARNESS/commands/$command.sh" "$@" >"$out/unpatched/log" 2>&1 || :
	[ -e "$out/unpatched/reports" ] || return 1
	titles "$out/unpatched/reports" >"$out/unpatched/known"
	! titles "$out/reports" | grep -v -x -F -f "$out/unpatched/known"
}

# What the reports in FILE are of, without places in functions, which move
titles() {
	cut -f2- "$1" | sed 's|+0x[0-9a-f]*/0x[0-9a-f]*||g' | sort -u
}

# The results of "N cases passed, N failed, N skipped", over all such lines
cases() {
	sed -n 's/^.*: \([0-9]*\) cases passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p' "$1" |
		awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }'
}

trap 'echo "diskseq: stopped; make check-full goes on from here" >&2; exit 130' INT TERM HUP
while IFS=$tab read -r base leg goal words <&7; do
	say ""
	say "== $base $leg: make $goal $words"
	out=$FULL/$base-$leg
	mkdir -p "$out"
	begin=$(date +%s)
	status=0
	# shellcheck disable=SC2086 # words
	{
		env BASE="$base" OUT="$out" "$HARNESS/commands/$goal.sh" $words 2>&1 || status=$?
		echo "$status" >"$out/status"
	} 7>&- | tee "$out/log"
	status=$(cat "$out/status")
	[ "$status" != 130 ] || exit 130
	read -r passed failed skipped <<-END
		$(cases "$out/log")
	END
	# shellcheck disable=SC2086 # words
	if excused "$status" "$goal" $words; then
		status=0
	fi
	# A leg that failed in another way than by a case
	[ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$key" "$base" "$leg" "$status" \
		"$passed" "$failed" "$skipped" $(($(date +%s) - begin)) |
		tee -a "$times" "$ended" >>"$results"
done 7<"$FULL/plan"

say ""
{
	printf 'leg\tbase\tpassed\tfailed\tskipped\ttime\tstatus\n'
	awk -F '\t' -v OFS='\t' '{ print $3, $2, $5, $6, $7, $8 " s", $4 == 0 ? "ok" : "status " $4 }' "$results"
} >"$FULL/table.tsv"
expand -t 12 "$FULL/table.tsv" | tee "$FULL/table.txt"
say "logs: $FULL"
# All of it came to its end: the next call starts anew.
[ -n "$only$only_base" ] || : >"$ended"
awk -F '\t' 'NR > 1 { p += $3; f += $4; s += $5 } END {
	print p + 0 " passed, " f + 0 " failed, " s + 0 " skipped"; exit f > 0 }' "$FULL/table.tsv" ||
	exit "$(status failed)"
