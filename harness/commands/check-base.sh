#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What make check does with one base:
#   - the selftests under full load on the patched kernel,
#   - the harness's tests that want a real guest,
#   - the negative control: on the unpatched kernel no case may pass that
#     tests/control does not name,
#   - the mutants: kernels with one thing broken, on which the cases that the
#     mutant names must fail,
#   - the Debian releases SUITES on the patched kernel, and the default one on the
#     unpatched kernel, where its tests must skip.
# After the first of these two guests run at a time: much of what the tests do on a
# broken kernel is to wait for what does not come.
# Usage: CHECK=... BASE=... SUITES=... harness/commands/check-base.sh; writes into the folder $CHECK.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/counts.sh"

: "${CHECK:?}" "${BASE:?}" "${SUITES:?}"

count() {
	grep -c "^$1	" "$2" 2>/dev/null || :
}

# run GUEST VARIANT NAME=VALUE...: run.sh into a folder of its own
run() {
	guest=$1 variant=$2
	shift 2
	out=$CHECK/$BASE-$guest-$variant${SUITE:+-$SUITE}
	mkdir -p "$out"
	# The limits are those of a machine on which other guests run.
	logged "$out/run.log" env GUEST="$guest" VARIANT="$variant" OUT="$out" \
		TIMEOUT="${TIMEOUT:-2000}" BOOT_TIMEOUT="${BOOT_TIMEOUT:-300}" \
		"$@" "$HARNESS/commands/run.sh"
}

# judged WHAT: shows the reasons in $out/why, and lists them at the end of the check
judged() {
	cat "$out/why"
	head -n 10 "$out/why" | sed 's/^ *//' | failures "$BASE: $1: "
}

# all_cases GUEST WHAT
all_cases() {
	status=0
	# Only one at a time of those that must pass, of all bases: on a machine that is
	# short of time tests find less, and more of them go wrong.
	lock 6 check
	run "$1" series || status=$?
	exec 6>&-
	add "$(count pass "$out/results")" "$(count fail "$out/results")" "$(count skip "$out/results")"
	grep '^fail	' "$out/results" | cut -f2- | failures "$BASE: "
	verdict "$status" "$BASE: $2"
}

# Statuses that mean: the guest ran all of its tests.
ran() {
	case $1 in
	0 | "$(status oops)" | "$(status failed)" | "$(status nothing)")
		grep -qsx complete "$out/results" ;;
	*)	return 1 ;;
	esac
}

control() {
	status=0
	# A probe that finds no feature would skip a test which asserts nothing.
	# What makes that kernel hang costs each case after it its own time limit.
	run kselftest base DISKSEQ_NO_PROBE=1 || status=$?
	if ! ran "$status"; then
		verdict 1 "$BASE: the negative control ran"
		return
	fi
	status=0
	awk -F '\t' 'NR == FNR { if ($0 !~ /^(#|$)/) may[$0] = 1; next }
		$1 == "pass" && !(($2 " " $3) in may) {
			print "  passes on the unpatched kernel: " $2 " " $3; n++
		}
		END { exit n > 0 }' "$TOP/tests/control" "$out/results" >"$out/why" || status=1
	judged "the negative control"
	verdict "$status" "$BASE: the negative control: $(count fail "$out/results") cases fail, $(count skip "$out/results") skip, $(count pass "$out/results") pass and may"
}

# mutant FILE: has "Must-fail: PROGRAM CASE" in its head
mutant() {
	name=$(basename "$1" .patch)
	must_fail=$CHECK/$BASE-kselftest-mutant-$name/must-fail
	sed -n 's/^Must-fail: //p' "$1" >"$must_fail"
	programs=$(cut -d' ' -f1 "$must_fail" | sort -u | tr '\n' ,)
	status=0
	run kselftest "mutant-$name" DISKSEQ_CYCLES= TEST="${programs%,}" || status=$?
	if [ ! -s "$must_fail" ] || ! ran "$status"; then
		verdict 1 "$BASE: mutant $name ran"
		return
	fi
	status=0
	awk -F '\t' 'NR == FNR { must[$0] = 1; next }
		$1 == "fail" { sub(/ - .*/, "", $3); delete must[$2 " " $3] }
		END { for (m in must) { print "  does not notice: " m; n++ }; exit n > 0 }' \
		"$must_fail" "$out/results" >"$out/why" || status=1
	judged "mutant $name"
	verdict "$status" "$BASE: mutant $name is found out"
}

# In a Debian without the number no test may fail, and each that needs it skips:
# those that tests/control-userland does not name.
userland_control() {
	status=0
	run userland base || status=$?
	if [ "$status" != 0 ]; then
		verdict 1 "$BASE: Debian on the unpatched kernel"
		return
	fi
	find "$USERLAND/tests" -type f -printf '%f\n' | sort >"$out/userland-tests"
	awk -F '\t' -v may="$TOP/tests/control-userland" -v tests="$out/userland-tests" '
		FILENAME == may { if ($0 !~ /^(#|$)/) { pass[$0]; split($0, word, " "); runs[word[1]] } next }
		FILENAME == tests { if (!($0 in runs)) must[$0]; next }
		$1 == "pass" && !(($2 " " $3) in pass) {
			print "  passes on the unpatched kernel: " $2 " " $3; n++
		}
		$1 == "skip" { delete must[$2] }
		END { for (m in must) { print "  does not skip: " m; n++ }; exit n > 0 }
	' "$TOP/tests/control-userland" "$out/userland-tests" "$out/results" >"$out/why" || status=1
	judged "Debian on the unpatched kernel"
	verdict "$status" "$BASE: Debian on the unpatched kernel: $(count skip "$out/results") tests skip, $(count pass "$out/results") cases pass and may"
}

# Those that the other one of the two has not begun: its folder shows it.
mutants() {
	for patch in "$TOP/tests/mutants/$BASE"/*.patch; do
		[ -f "$patch" ] || continue
		name=$(basename "$patch" .patch)
		mkdir "$CHECK/$BASE-kselftest-mutant-$name" 2>/dev/null || continue
		head_line "$BASE: mutant $name"
		mutant "$patch"
	done
}

unpatched() {
	head_line "$BASE: negative control"
	control
	head_line "$BASE: Debian, negative control"
	userland_control
	mutants
}

head_line "$BASE"
all_cases kselftest "the series passes its tests"
unpatched >"$CHECK/$BASE-unpatched.log" 2>&1 &
beside=$!
for SUITE in $SUITES; do
	export SUITE
	head_line "$BASE: Debian $SUITE"
	all_cases userland "Debian $SUITE on the series passes its tests"
done
unset SUITE
head_line "$BASE: real guests that go wrong"
export BASE_UNDER_TEST="$BASE"
own_tests "$BASE-guest" "$TOP/tests/guest"
mutants
wait "$beside" || verdict 1 "$BASE: what ran beside it came to its end"
cat "$CHECK/$BASE-unpatched.log"
