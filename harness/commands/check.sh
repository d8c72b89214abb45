#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Everything that can be tested here: lint, the harness's own tests, and what
# check-base.sh does for each base whose source can be had. The bases are tested
# side by side, as a guest keeps one processor busy for most of the time; what each
# prints comes in one piece. Goes on after a failure. What failed is listed at the
# end, and the last line counts.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"
. "$HARNESS/lib/counts.sh"
. "$HARNESS/lib/suites.sh"

need prove perl
results_dir check
CHECK=$results_dir
: >"$CHECK/counts"
: >"$CHECK/failures"
only_base=${BASE:-}
variables check
only_variables check
unset BASE OUT
export CHECK

# Each base has a process group, which ends with this one.
groups=
end_groups() {
	for group in $groups; do
		kill -s TERM -- "-$group" 2>/dev/null || :
	done
	cleanup
}
trap end_groups EXIT

begin=$(date +%s)
head_line lint
status=0
logged "$CHECK/lint.log" env OUT="$CHECK" "$HARNESS/commands/lint.sh" || status=$?
# shellcheck disable=SC2046
add $(sed -n 's/^lint: \([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped/\1 \2 \3/p' "$CHECK/lint.log" | grep . || echo 0 1 0)
sed -n 's/^not ok *//p' "$CHECK/lint.log" | failures "lint: "

head_line "the harness's own tests"
own_tests harness "$TOP"/tests/*.t

tested=
for base in $(bases); do
	[ -z "$only_base" ] || [ "$base" = "$only_base" ] || continue
	if ! BASE=$base "$HARNESS/stages/fetch.sh"; then
		say "skip    $base: no source"
		add 0 0 1
		continue
	fi
	more=
	[ -n "$tested" ] || more=$(suites first)
	BASE=$base SUITES="$(suites each) $more" setsid "$HARNESS/commands/check-base.sh" >"$CHECK/$base.log" 2>&1 &
	groups="$groups $!"
	tested="$tested $base:$!"
done
for base in $tested; do
	say ""
	say "the log of ${base%:*}, which may still grow:"
	# in the background, so that a signal does not wait for its end
	tail -n +1 -f --pid="${base#*:}" "$CHECK/${base%:*}.log" &
	child=$!
	wait "$child" || :
	child=
	wait "${base#*:}" || verdict 1 "${base%:*}: its check came to its end"
done

groups=
head_line "summary"
for times in "$CHECK"/*/times; do
	[ -f "$times" ] || continue
	say "$(basename "$(dirname "$times")"): $(awk '{ printf "%s%s %s s", (NR > 1 ? ", " : ""), $1, $2 }' "$times")"
done
say "logs: $CHECK; whole time: $(($(date +%s) - begin)) s"
[ -n "$tested" ] || say "no base could be tested: no source"
[ ! -s "$CHECK/failures" ] || { say "failed:"; sed 's/^/  /' "$CHECK/failures"; }
awk '{ p += $1; f += $2; s += $3 }
	END { print p + 0 " passed, " f + 0 " failed, " s + 0 " skipped"; exit f > 0 }' "$CHECK/counts" ||
	failed=1
[ -n "$tested" ] || exit "$(status source)"
[ -z "${failed:-}" ] || exit "$(status failed)"
