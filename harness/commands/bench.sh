#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What the number costs: stress/bench.c on the unpatched and on the patched kernel
# of one base, in turn, ROUNDS times: counting instructions on one processor, and
# by the clock on 2, 4 and 8. Leaves a table (bench.txt, and bench.rst for the
# documentation) and the figures of each guest (bench.tsv) in out/<run>/;
# out/bench is the last run that came to its end.
# Usage: harness/commands/bench.sh [NAME=VALUE...], with the variables of "make help-variables".

. "$(dirname "$0")/../lib/args.sh"

GOALS=$STRESS/goals
variables bench
[ -z "${BASE:-}" ] || known_base "$BASE"
# The unpatched kernel is that of the work tree's base.
[ -z "${WORKTREE:-}" ] || worktree_base

# The items that PATTERN[,PATTERN...] names
named() {
	set -f
	for pattern in $(echo "$1" | tr , ' '); do
		found=
		while IFS='	' read -r item _; do
			# shellcheck disable=SC2254 # it is a pattern
			case $item in
			\#* | '') ;;
			$pattern)
				echo "$item"
				found=1 ;;
			esac
		done <"$GOALS"
		[ -n "$found" ] || die usage "no item is named '$pattern' (there are: $(
			awk '!/^#/ { printf "%s ", $1 }' "$GOALS"))"
	done
	set +f
}

# What the items are compared with is measured, too; on the unpatched kernel
# there may be nothing else to measure.
with_compared() {
	echo "$1"
	echo "$1" | sed -n 's/-many$//p'
	! echo "$1" | grep -q '^getdiskseq' || printf 'getsize64\nroget\n'
}

items=$(named "${ITEM:-*}")
kinds=$(echo "$items" | awk -F '\t' 'NR == FNR { kind[$1] = $2; next } { print kind[$1] }' "$GOALS" -)
[ -z "${ITEM:-}" ] || ITEM=$(with_compared "$items" | paste -s -d , -)

. "$HARNESS/lib/legs.sh"
need python3 python3
legs_begin bench
export GUEST=bench GOAL=bench TIMEOUT="${TIMEOUT:-1200}"

# both NAME NAME=VALUE...: the leg on each kernel
both() {
	both_name=$1
	shift
	for variant in base series; do
		say "== round $round of $ROUNDS: $both_name, $variant"
		leg "$variant" "$variant-$both_name-$round" ITEM="${ITEM:-}" "$@" >/dev/null
		sed -n "s/^# # bench /$variant $both_name $round /p" \
			"$LEGS/$variant-$both_name-$round/results.tap" | tr ' ' '\t' >>"$LEGS/bench.tsv"
	done
}

sizes=1
[ -z "${ITEM:-}" ] || sizes=
round=1
while [ "$round" -le "$ROUNDS" ]; do
	case $kinds in
	*1*)	both instructions ICOUNT=1 SMP=1 ACCEL=tcg SIZES="$sizes"
		sizes= ;;
	esac
	both time-2 SMP=2
	case $kinds in
	*n*)	both time-4 SMP=4
		both time-8 SMP=8 ;;
	esac
	round=$((round + 1))
done

{
	echo "$(cat "$LEGS/what"), $ROUNDS rounds, $(nproc) processors"
	awk -F '\t' -f "$STRESS/bench.awk" "$GOALS" "$LEGS/bench.tsv"
} >"$LEGS/bench.txt"

if [ -z "${ITEM:-}" ]; then
	base=$LEGS/base-instructions-1 series=$LEGS/series-instructions-1
	for object in "$series"/objects/*.o; do
		name=${object##*/}
		echo "$name"
		"$CACHE/src/$BASE/scripts/bloat-o-meter" "$base/objects/$name" "$object"
	done >"$LEGS/bloat.txt"
	for kernel in base series; do
		(cd "$LEGS/$kernel-instructions-1/objects" && size -- *.o) |
			awk -v kernel="$kernel" 'NR > 1 { print kernel, $6, $1, $2 + $3 }'
		sed "s/^/$kernel struct_/" "$LEGS/$kernel-instructions-1/structs"
	done >"$LEGS/sizes"
	awk -f "$STRESS/sizes.awk" "$LEGS/sizes" >>"$LEGS/bench.txt"
fi
awk -f "$STRESS/rst.awk" "$LEGS/bench.txt" >"$LEGS/bench.rst"
cat "$LEGS/bench.txt"
legs_end
