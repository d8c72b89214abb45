#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The race that the number ends: stress/race.c, on the patched kernel by diskseq
# and by name, and on the unpatched one by name. Leaves a table (race.txt), a
# picture (race.svg) and the figures (race.tsv, quantiles.tsv) in out/<run>/;
# out/race is the last run that came to its end.
# Usage: harness/commands/race.sh [NAME=VALUE...], with the variables of "make help-variables".

. "$(dirname "$0")/../lib/args.sh"

variables race
[ -z "${BASE:-}" ] || known_base "$BASE"

. "$HARNESS/lib/legs.sh"
need gnuplot gnuplot-nox
legs_begin race
export GUEST=race GOAL=race TIMEOUT="${TIMEOUT:-$((600 + ATTACHES / 20))}"

# race_leg VARIANT WAY
race_leg() {
	say "== $1 kernel, by $2"
	leg "$1" "$1-$2" RACE_WAY="$2"
	sed -n "s/^# # race $2 /$1 $2 /p" "$LEGS/$1-$2/results.tap" >"$LEGS/$1-$2/race"
	[ -s "$LEGS/$1-$2/race" ] || die truncated "the guest printed no figures (log: $LEGS/$1-$2/results.tap)"
	# The names of the fields are those that stress/race.c gives them.
	sed -e 's/ [a-z_0-9]*=/\t/g' -e 's/ /\t/' "$LEGS/$1-$2/race" >>"$LEGS/race.tsv"
	sed -n "s/^# #  quantile \([^ ]*\) /$1-$2\t\1\t/p" "$LEGS/$1-$2/results.tap" >>"$LEGS/quantiles.tsv"
}
case $WAY in
all | diskseq) race_leg series diskseq ;;
esac
case $WAY in
all | name)
	race_leg series name
	race_leg base name ;;
esac

{
	echo "$(cat "$LEGS/what"): $ATTACHES attaches each, $PROCESSES processes, $LOOPS loop devices, $BUFFER bytes of buffer"
	echo
	awk -F '\t' -f "$STRESS/race.awk" "$LEGS/race.tsv"
} >"$LEGS/race.txt"
gnuplot -e "dir='$LEGS'" "$STRESS/race.gnuplot" >"$LEGS/gnuplot.log" 2>&1 ||
	die_log internal "$LEGS/gnuplot.log" "gnuplot cannot draw the picture"
say ""
cat "$LEGS/race.txt"

# A load that provokes nothing proves nothing: both faults must be seen by name.
awk -F '\t' '$2 == "name" && ($4 == 0 || $6 == 0) { bad = 1 } END { exit bad }' "$LEGS/race.tsv" ||
	die control "by name no other's event was taken, or none was waited for in vain: the load proves nothing (more ATTACHES=, less BUFFER=)"
legs_end
