#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Which of the lines that the series adds to the kernel were executed by the guest
# that ran in $OUT with DEBUG=gcov. Leaves a table by file and what was not executed
# in $OUT/coverage.txt. A line that harness/tables/not-executed does not excuse is a failure,
# where all tests ran.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/kbuild.sh"
. "$HARNESS/lib/build-dir.sh"

: "${OUT:?}"

need jq jq
counted=$OUT/coverage
rm -rf "$counted"
mkdir "$counted"
for guest in "$OUT"/guest-*; do
	[ -d "$guest" ] || guest=$OUT
	of_guest=$counted/$(basename "$guest")
	mkdir "$of_guest"
	tar -C "$of_guest" -xf "$guest/coverage.tar" 2>"$OUT/coverage.log" ||
		die_log truncated "$OUT/coverage.log" "the guest's counters are no archive"
done

base=$BASE
[ -z "${WORKTREE:-}" ] || base=base
git -C "$TREE" diff -U0 "$base" -- '*.c' '*.h' ':!tools' |
	awk -f "$HARNESS/awk/added.awk" >"$OUT/added"
[ -s "$OUT/added" ] || die nothing "the series adds no line"

# gcov names sources as the compiler did, from $BUILD, which lies in the tree.
cd "$BUILD"
find "$counted" -name '*.gcda' | sort |
while read -r counters; do
	object=${counters#"$counted"/*"$BUILD/"}
	[ -f "${object%.gcda}.gcno" ] || continue
	cp "${object%.gcda}.gcno" "${counters%.gcda}.gcno"
	"gcov-${kernel_gcc##*-}" --stdout --json-format --branch-probabilities "$counters" 2>>"$OUT/coverage.log"
done | jq -r '.files[] | .file as $file | .lines[] |
	[$file, .line_number, .count, .branches[].count] | @tsv' >"$OUT/coverage.tsv"
[ -s "$OUT/coverage.tsv" ] || die nothing "the guest sent no counters"

status=0
awk -v added="$OUT/added" -v excused="$HARNESS/tables/not-executed" -f "$HARNESS/awk/coverage.awk" \
	"$OUT/coverage.tsv" >"$OUT/coverage.txt" || status=$?
cat "$OUT/coverage.txt"
[ "$status" = 0 ] || [ -n "${TEST:-}" ] || die failed "lines of the series were not executed (see coverage.txt)"
