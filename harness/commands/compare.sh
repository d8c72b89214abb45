#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What Debian's kernels keep of the promise, as they are, beside the kernel with the series:
# the kselftests on each of harness/tables/compare. Leaves a table (compare.txt, and
# newer-kernels.rst for doc/) in out/<run>/; out/compare is the last run that came to its end.
# A kernel that is not available, or does not boot, has a line with the reason.
# Usage: harness/commands/compare.sh [NAME=VALUE...], with the variables of "make help-variables".

. "$(dirname "$0")/../lib/args.sh"

variables compare
[ -z "${BASE:-}" ] || known_base "$BASE"
[ -z "${WORKTREE:-}" ] || worktree_base

. "$HARNESS/lib/legs.sh"
. "$HARNESS/lib/stock.sh"
legs_begin compare
kernels=$LEGS/kernels
: >"$kernels"

# kernel NAME NAME=VALUE...: runs the tests of a kernel, results in $LEGS/NAME. Fails if
# these are not complete; $reason is why.
kernel() {
	out=$LEGS/$1
	shift
	rm -rf "$out"
	mkdir -p "$out"
	{
		status=0
		env OUT="$out" "$@" "$HARNESS/commands/run.sh" 2>&1 || status=$?
		echo "$status" >"$out/status"
	} | tee "$out/run.log"
	[ "$(cat "$out/status")" != 130 ] || exit 130
	reason=$(sed -n 's/^diskseq: \(KERNEL=[^ ]* \)\{0,1\}//p' "$out/run.log" | tail -n 1)
	case $(cat "$out/status") in
	0 | "$(status failed)" | "$(status oops)") [ -s "$out/results" ] && ! grep -q '^truncated' "$out/results" ;;
	*) false ;;
	esac
}

say "== the kernel with the series"
if kernel series ${WORKTREE:+WORKTREE="$WORKTREE"}; then
	promise "$LEGS/series"
	reason=
fi
base=$(cat "$LEGS/series/base" 2>/dev/null || echo "${BASE:-the base}")
printf 'series\t%s\t%s with the series\t%s\n' "$base+" "$base" "$reason" >>"$kernels"

grep -v '^#' "$HARNESS/tables/compare" >"$LEGS/table"
while IFS='	' read -r name choices; do
	for choice in $choices; do
		say "== $choice"
		if kernel "$name" ${BASE:+BASE="$BASE"} WORKTREE= KERNEL="$choice" </dev/null; then
			reason=
			break
		fi
		[ "$(cat "$out/status")" = "$(status kernel)" ] || break
	done
	version=
	label="Debian $(echo "$choices" | sed 's/debian://g; s/ / or /g')"
	if [ -f "$out/package" ]; then
		# not of its name, which has no sublevel in 6.1
		version=$(cut -d' ' -f2 "$out/package" | sed 's/[-~].*//')
		label="Linux $version, Debian ${choice#debian:} ($(cut -d' ' -f2 "$out/package"))"
	fi
	printf '%s\t%s\t%s\t%s\n' "$name" "${version:-$name}" "$label" "$reason" >>"$kernels"
done <"$LEGS/table"

for form in text rst; do
	awk -v form="$form" -v date="$(date +%F)" -v legs="$LEGS" -f "$HARNESS/awk/compare.awk" "$kernels" \
		>"$LEGS/compare.$form"
done
mv "$LEGS/compare.text" "$LEGS/compare.txt"
mv "$LEGS/compare.rst" "$LEGS/newer-kernels.rst"
cat "$LEGS/compare.txt"
legs_end
