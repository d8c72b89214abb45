#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# All tests that can run here. Each leg of check-leg.sh is a test for prove, which counts:
# lint, the harness's own tests, and several for each base whose source is available. The
# logs are in out/<run>/LEG/. With MINUTES= what has not ended by then is skipped; lint, a
# test of the harness or a kselftest that has not ended fails.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"
. "$HARNESS/lib/suites.sh"

need prove perl
results_dir check
export CHECK="$results_dir"
variables check
only_base=${BASE:-}
only_variables check
unset BASE OUT CHECK_UNTIL
[ -z "${MINUTES:-}" ] || export CHECK_UNTIL=$(($(date +%s) + MINUTES * 60))
unset MINUTES

# The legs that must pass run one after the other: on a busy machine tests find less, and
# fail more often. As many others run beside them as there are processors, because tests
# on a broken kernel mostly wait for events that do not come. What shows the most comes
# first, in case the time is limited.
must_pass=lint
users=
cd "$TOP"
beside=$(echo tests/*.t)
mutants=
more=$(suites first)
for base in $(bases); do
	[ -z "$only_base" ] || [ "$base" = "$only_base" ] || continue
	if ! BASE=$base "$HARNESS/stages/fetch.sh"; then
		beside="$beside $base-nosource"
		continue
	fi
	must_pass="$must_pass $base-kselftest"
	for suite in $(suites each) $more; do
		users="$users $base-userland-$suite"
	done
	more=
	users="$users $base-guest"
	# A kernel that has the number may pass many tests, and must fail some.
	if [ -f "tests/unpatched-$base" ]; then
		beside="$beside $base-unpatched"
	else
		beside="$beside $base-control $base-userland-control"
	fi
	for patch in "$TOP/tests/mutants/$base"/*.patch; do
		[ ! -f "$patch" ] || mutants="$mutants $base-mutant-$(basename "$patch" .patch)"
	done
done
must_pass=$must_pass$users
beside=$beside$mutants

say "logs: $CHECK"
set -- --rules "seq={$(echo "$must_pass" | tr ' ' ,)}"
for leg in $beside; do
	# A test that no rule names would come before all that one names.
	set -- "$@" --rules "seq=$leg"
done
[ "$must_pass" != lint ] || say "no base can be tested: no source"
# shellcheck disable=SC2086 # words
prove --timer -j $(($(nproc) + 1)) "$@" --exec "$HARNESS/commands/check-leg.sh" $must_pass $beside ||
	exit "$(status failed)"
[ "$must_pass" != lint ] || exit "$(status source)"
