#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# One leg of make check, as a test that prints TAP:
#   lint                    make lint
#   tests/NAME.t            a test of the harness
#   BASE-kselftest          the selftests under full load on the patched kernel
#   BASE-userland-SUITE     the Debian release SUITE on the patched kernel
#   BASE-guest              the harness's tests that need a real guest
#   BASE-control            on the unpatched kernel no case passes that tests/control does
#                           not name
#   BASE-unpatched          on an unpatched kernel that has the number the cases fail that
#                           tests/unpatched-BASE names
#   BASE-userland-control   in Debian on the unpatched kernel none fails, and each test
#                           skips that tests/control-userland does not name
#   BASE-mutant-NAME        on a kernel that a mutant has broken the cases fail that the
#                           mutant names
#   BASE-nosource           skipped
# Usage: CHECK=... [CHECK_UNTIL=...] harness/commands/check-leg.sh LEG; leaves its logs in
# $CHECK/LEG. CHECK_UNTIL is a time in seconds since 1970: at that time the leg is ended.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/results.sh"

leg=$1
out=${CHECK:?}/$leg
mkdir -p "$out"
if [ -n "${CHECK_UNTIL:-}" ]; then
	until=$CHECK_UNTIL
	unset CHECK_UNTIL
	: >"$out/tap"
	status=0
	left=$((until - $(date +%s)))
	if [ "$left" -gt 0 ]; then
		# In the background, or a signal would wait for its end.
		timeout -k 30 "$left" "$0" "$leg" >"$out/tap" &
		child=$!
		wait "$child" || status=$?
		child=
	fi
	# It has ended, or has failed already.
	if [ "$(date +%s)" -lt "$until" ] || grep -q '^not ok' "$out/tap"; then
		cat "$out/tap"
		exit "$status"
	fi
	case $leg in
	lint | *.t | *-kselftest)
		echo "# $leg: failed: it has not ended in time" >&2
		echo "1..1"
		echo "not ok 1 - $leg ends in time" ;;
	*)	echo "1..0 # SKIP it has not ended in time" ;;
	esac
	exit 0
fi
case $leg in
*.t) exec "$TOP/$leg" ;;
esac
base=${leg%%-*}
number=0

# verdict STATUS WHAT: a case of TAP; a failed one is printed on stderr too
verdict() {
	number=$((number + 1))
	if [ "$1" = 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		echo "# $leg: failed: $2 (logs: $out)" >&2
	fi
}

# judged WHAT: passes when $out/why, which has the reasons against it, is empty
judged() {
	sed "s/^/# $leg: /" "$out/why" >&2
	verdict "$(wc -l <"$out/why")" "$1"
}

# run NAME=VALUE...: run.sh with one guest, as other legs have theirs beside it, and with
# the limits of a busy machine; $status is its status
run() {
	status=0
	env BASE="$base" OUT="$out" GUESTS=1 TIMEOUT="${TIMEOUT:-2000}" BOOT_TIMEOUT="${BOOT_TIMEOUT:-300}" \
		"$@" "$HARNESS/commands/run.sh" >"$out/run.log" 2>&1 || status=$?
}

# went_wrong WHAT: a run that should have come to an end in another way
went_wrong() {
	tail -n 5 "$out/run.log" | sed "s/^/# $leg: /" >&2
	verdict 1 "$1"
}

# The guest ran all of its tests, whatever came of them.
ran() {
	case $status in
	0 | "$(status oops)" | "$(status failed)" | "$(status nothing)") ;;
	*) return 1 ;;
	esac
	grep -qsx complete "$out/results"
}

all_cases() {
	run "$@"
	[ -f "$out/results" ] || : >"$out/results"
	awk -F '\t' -v leg="$leg" '
		{ gsub(/#/, "\\#") }
		$1 == "pass" { print "ok " ++n " - " $2 " " $3 }
		$1 == "skip" { print "ok " ++n " - " $2 " # SKIP " $3 }
		$1 == "fail" {
			print "not ok " ++n " - " $2 " " $3
			print "# " leg ": failed: " $2 " " $3 >"/dev/stderr"
		}' "$out/results"
	number=$(grep -cE '^(pass|skip|fail)	' "$out/results" || :)
	if [ "$status" = 0 ]; then
		verdict 0 "make run ends with status 0"
	else
		went_wrong "make run ends with status 0"
	fi
}

# lint prints no TAP: "ok", "not ok" or "skip" and the name, and under it why
lint() {
	status=0
	OUT=$out "$HARNESS/commands/lint.sh" >"$out/log" 2>&1 || status=$?
	awk '
		/^(ok|not ok|skip) / { bad = /^not ok/ }
		bad { print "# lint: " $0 >"/dev/stderr" }
		sub(/^ok +/, "") { print "ok " ++n " - " $0 }
		sub(/^not ok +/, "") { print "not ok " ++n " - " $0 }
		sub(/^skip +/, "") { print "ok " ++n " - # SKIP " $0 }' "$out/log"
	number=$(grep -cE '^(ok|not ok|skip) ' "$out/log" || :)
	verdict "$status" "make lint ends with status 0"
}

control() {
	# A probe that finds no feature would skip a test which asserts nothing.
	# Nearly all cases fail, many by waiting in vain.
	run GUEST=kselftest VARIANT=base DISKSEQ_NO_PROBE=1 DISKSEQ_PATIENCE=5000
	ran || { went_wrong "the unpatched kernel runs its tests"; return; }
	awk -F '\t' 'NR == FNR { if ($0 !~ /^(#|$)/) may[$0] = 1; next }
		$1 == "pass" && !(($2 " " $3) in may) { print "passes on the unpatched kernel: " $2 " " $3 }
		' "$TOP/tests/control" "$out/results" >"$out/why"
	judged "$(count fail "$out/results") cases fail, $(count skip "$out/results") skip, $(count pass "$out/results") pass and may"
}

# found_out VARIANT WHAT: the cases in $out/must-fail fail there
found_out() {
	programs=$(cut -d' ' -f1 "$out/must-fail" | sort -u | paste -s -d , -)
	run GUEST=kselftest VARIANT="$1" DISKSEQ_CYCLES= TEST="$programs"
	if [ ! -s "$out/must-fail" ] || ! ran; then
		went_wrong "$2 runs its tests"
		return
	fi
	awk -F '\t' 'NR == FNR { must[$0] = 1; next }
		$1 == "fail" { sub(/ - .*/, "", $3); delete must[$2 " " $3] }
		END { for (m in must) print "does not notice: " m }' "$out/must-fail" "$out/results" >"$out/why"
	judged "$2 is found out"
}

# A mutant has "Must-fail: PROGRAM CASE" in its head.
mutant() {
	sed -n 's/^Must-fail: //p' "$TOP/tests/mutants/$base/$1.patch" >"$out/must-fail"
	found_out "mutant-$1" "the mutant"
}

unpatched() {
	grep -v '^#' "$TOP/tests/unpatched-$base" >"$out/must-fail"
	found_out base "the unpatched kernel"
}

userland_control() {
	run GUEST=userland VARIANT=base
	[ "$status" = 0 ] || { went_wrong "no test fails in Debian on the unpatched kernel"; return; }
	find "$USERLAND/tests" -type f -printf '%f\n' | sort >"$out/userland-tests"
	awk -F '\t' -v may="$TOP/tests/control-userland" -v tests="$out/userland-tests" '
		FILENAME == may { if ($0 !~ /^(#|$)/) { pass[$0]; split($0, word, " "); runs[word[1]] } next }
		FILENAME == tests { if (!($0 in runs)) must[$0]; next }
		$1 == "pass" && !(($2 " " $3) in pass) { print "passes on the unpatched kernel: " $2 " " $3 }
		$1 == "skip" { delete must[$2] }
		END { for (m in must) print "does not skip: " m }
	' "$TOP/tests/control-userland" "$out/userland-tests" "$out/results" >"$out/why"
	judged "$(count skip "$out/results") tests skip, $(count pass "$out/results") cases pass and may"
}

case $leg in
lint)			lint ;;
*-userland-control)	userland_control ;;
*-control)		control ;;
*-unpatched)		unpatched ;;
*-mutant-*)		mutant "${leg#*-mutant-}" ;;
*-kselftest)		all_cases GUEST=kselftest ;;
*-userland-*)		all_cases GUEST=userland SUITE="${leg#*-userland-}" ;;
*-guest)		BASE_UNDER_TEST=$base exec "$TOP/tests/guest" ;;
*-nosource)		echo "1..0 # SKIP no source"; exit 0 ;;
*)			die usage "unknown leg '$leg'" ;;
esac
echo "1..$number"
