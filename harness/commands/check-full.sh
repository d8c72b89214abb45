#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The tests under stress, for each base whose source is available: the legs of
# harness/tables/full-legs. Prints first what it will run and how long that took last time,
# and at last a table. make runs the legs (check-full.mk): the next call goes on where this
# one was stopped, and runs again what failed and what patches or harness have changed
# since. When all has passed, the next call starts anew. LEG= runs these legs in any
# case; BASE= runs one base's.
# Usage: harness/commands/check-full.sh [NAME=VALUE...], with LEG= and BASE=.

. "$(dirname "$0")/../lib/args.sh"
. "$HARNESS/lib/full-legs.sh"

export FULL_LEGS="${FULL_LEGS:-$HARNESS/tables/full-legs}"
only=$(echo "${LEG:-}" | tr , ' ')
names=$(full_legs | cut -f1 | uniq | xargs)
for name in $only; do
	case " $names " in
	*" $name "*) ;;
	*) die usage "unknown LEG '$name' (there are: $names)" ;;
	esac
done
[ -z "${BASE:-}" ] || known_base "$BASE"
only_base=${BASE:-}
only_variables check-full
unset BASE LEG OUT

FULL=$RESULTS/full
make_dir "$FULL"
lock 8 "check-full${only_base:+-$only_base}"

legs=
for base in $(bases); do
	[ -z "$only_base" ] || [ "$base" = "$only_base" ] || continue
	if ! BASE=$base "$HARNESS/stages/fetch.sh"; then
		say "skip    $base: no source"
		continue
	fi
	for leg in $(full_legs "$base" | cut -f1); do
		case " ${only:-$leg} " in
		*" $leg "*) legs="$legs $base-$leg" ;;
		esac
	done
done
[ -n "$legs" ] || die source "no base could be tested: no source"

# full_make ARGUMENT...: make with the legs' stamps as its targets
full_make() {
	# shellcheck disable=SC2046,SC2086 # words
	make -k --no-print-directory -f "$HARNESS/commands/check-full.mk" "$@" $(printf "$FULL/%s/done " $legs)
}

for leg in $legs; do
	[ -z "$only" ] || rm -f "$FULL/$leg/done"
done
full_make -n | sed -n 's/.*check-full-leg.sh //p' >"$FULL/plan"
for leg in $legs; do
	if ! grep -qx "$leg" "$FULL/plan"; then
		say "done    $leg"
	elif [ -s "$FULL/$leg/result" ]; then
		say "to run  $leg ($(cut -f7 "$FULL/$leg/result") s last time)"
	else
		say "to run  $leg (not run yet)"
	fi
done

trap 'echo "diskseq: stopped; make check-full goes on from here" >&2; exit 130' INT TERM HUP
full_make || :

say ""
for leg in $legs; do
	cat "$FULL/$leg/result"
done | awk -F '\t' -v OFS='\t' '
	BEGIN { print "leg", "base", "passed", "failed", "skipped", "time", "status" }
	{ print $2, $1, $4, $5, $6, $7 " s", $3 == 0 ? "ok" : "status " $3 }' >"$FULL/table.tsv"
expand -t 12 "$FULL/table.tsv"
say "logs: $FULL"
status=0
awk -F '\t' 'NR > 1 { p += $3; f += $4; s += $5 } END {
	print p + 0 " passed, " f + 0 " failed, " s + 0 " skipped"; exit f > 0 }' "$FULL/table.tsv" ||
	status=$(status failed)
[ "$status$only$only_base" != 0 ] || rm -f "$FULL"/*/done
exit "$status"
