#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Everything that can be tested here: lint, the harness's own tests, and for
# each base whose source can be had
#   - the selftests under full load on the patched kernel,
#   - the harness's tests that want a real guest,
#   - the negative control: on the unpatched kernel no case may pass that
#     tests/control does not name,
#   - the mutants: kernels with one thing broken, on which the cases that the
#     mutant names must fail,
#   - Debian on the patched kernel, and on the unpatched one, where its tests
#     must skip.
# Goes on after a failure. The last line counts.

. "$(dirname "$0")/lib.sh"
. "$HARNESS/base.sh"

need prove perl
CHECK=$TOP/out/$(date +%Y%m%d-%H%M%S)-$$-check
mkdir -p "$CHECK" 2>/dev/null || die disk "cannot make $CHECK"
ln -sfn "${CHECK##*/}" "$TOP/out/last"
passed=0 failed=0 skipped=0
unset TEST REPEAT VARIANT WORKTREE DEBUG SHELL_ONLY HOOK OUT GUEST
export DISKSEQ_CYCLES="${DISKSEQ_CYCLES:-10000}"

head_line() {
	say ""
	say "== $*"
}

# add PASSED FAILED SKIPPED
add() {
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

verdict() {
	if [ "$1" = 0 ]; then
		say "ok      $2"
		add 1 0 0
	else
		say "not ok  $2"
		add 0 1 0
	fi
}

count() {
	grep -c "^$1	" "$2" 2>/dev/null || :
}

# What a command says goes to the terminal and to a log; its status is kept.
logged() {
	log=$1
	shift
	{ logged_status=0; "$@" 2>&1 || logged_status=$?; echo "$logged_status" >"$log.status"; } |
		tee "$log"
	return "$(cat "$log.status")"
}

# run BASE GUEST VARIANT NAME=VALUE...: run.sh into a folder of its own
run() {
	base=$1 guest=$2 variant=$3
	shift 3
	out=$CHECK/$base-$guest-$variant
	mkdir -p "$out"
	logged "$out/run.log" env BASE="$base" GUEST="$guest" VARIANT="$variant" OUT="$out" \
		"$@" "$HARNESS/run.sh"
}

# prove counts tests; a script that broke down counts as one failure.
own_tests() {
	log=$CHECK/$1.log
	shift
	status=0
	logged "$log" prove --timer -j "$(nproc)" "$@" || status=$?
	tests=$(sed -n 's/^Files=.*Tests=\([0-9]*\),.*/\1/p' "$log")
	bad=$(sed -n 's/^  Failed tests*:  *//p' "$log" | tr -c '0-9-\n' '\n' |
		awk -F- 'NF { n += NF == 2 ? $2 - $1 + 1 : 1 } END { print n + 0 }')
	[ "$status" = 0 ] || [ "$bad" != 0 ] || bad=1
	add $((${tests:-0} - bad)) "$bad" 0
}

# all_cases BASE GUEST WHAT
all_cases() {
	status=0
	run "$1" "$2" series || status=$?
	add "$(count pass "$out/results")" "$(count fail "$out/results")" "$(count skip "$out/results")"
	verdict "$status" "$1: $3"
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
	run "$1" kselftest base DISKSEQ_NO_PROBE=1 TIMEOUT="${TIMEOUT:-2000}" || status=$?
	if ! ran "$status"; then
		verdict 1 "$1: the negative control ran"
		return
	fi
	status=0
	awk -F '\t' 'NR == FNR { if ($0 !~ /^(#|$)/) may[$0] = 1; next }
		$1 == "pass" && !(($2 " " $3) in may) {
			print "  passes on the unpatched kernel: " $2 " " $3; n++
		}
		END { exit n > 0 }' "$TOP/tests/control" "$out/results" || status=1
	verdict "$status" "$1: the negative control: $(count fail "$out/results") cases fail, $(count skip "$out/results") skip, $(count pass "$out/results") pass and may"
}

# "Must-fail: PROGRAM CASE" in the mutant's head
mutant() {
	name=$(basename "$2" .patch)
	sed -n 's/^Must-fail: //p' "$2" >"$CHECK/must-fail"
	programs=$(cut -d' ' -f1 "$CHECK/must-fail" | sort -u | tr '\n' ,)
	status=0
	run "$1" kselftest "mutant-$name" DISKSEQ_CYCLES= TEST="${programs%,}" || status=$?
	if [ ! -s "$CHECK/must-fail" ] || ! ran "$status"; then
		verdict 1 "$1: mutant $name ran"
		return
	fi
	status=0
	awk -F '\t' 'NR == FNR { must[$0] = 1; next }
		$1 == "fail" { sub(/ - .*/, "", $3); delete must[$2 " " $3] }
		END { for (m in must) { print "  does not notice: " m; n++ }; exit n > 0 }' \
		"$CHECK/must-fail" "$out/results" || status=1
	verdict "$status" "$1: mutant $name is found out"
}

# In a Debian without the number no test may fail, and each that needs it skips:
# those that tests/control-userland does not name.
userland_control() {
	status=0
	run "$1" userland base || status=$?
	if [ "$status" != 0 ]; then
		verdict 1 "$1: Debian on the unpatched kernel"
		return
	fi
	find "$USERLAND/tests" -type f -printf '%f\n' | sort >"$CHECK/userland-tests"
	awk -F '\t' -v may="$TOP/tests/control-userland" -v tests="$CHECK/userland-tests" '
		FILENAME == may { if ($0 !~ /^(#|$)/) { pass[$0]; split($0, word, " "); runs[word[1]] } next }
		FILENAME == tests { if (!($0 in runs)) must[$0]; next }
		$1 == "pass" && !(($2 " " $3) in pass) {
			print "  passes on the unpatched kernel: " $2 " " $3; n++
		}
		$1 == "skip" { delete must[$2] }
		END { for (m in must) { print "  does not skip: " m; n++ }; exit n > 0 }
	' "$TOP/tests/control-userland" "$CHECK/userland-tests" "$out/results" || status=1
	verdict "$status" "$1: Debian on the unpatched kernel: $(count skip "$out/results") tests skip, $(count pass "$out/results") cases pass and may"
}

begin=$(date +%s)
head_line lint
status=0
logged "$CHECK/lint.log" env OUT="$CHECK" "$HARNESS/lint.sh" || status=$?
# shellcheck disable=SC2046
add $(sed -n 's/^lint: \([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped/\1 \2 \3/p' "$CHECK/lint.log" | grep . || echo 0 1 0)

head_line "the harness's own tests"
own_tests harness "$TOP"/tests/*.t

tested=0
for base in $(bases); do
	[ -z "${BASE:-}" ] || [ "$base" = "$BASE" ] || continue
	head_line "$base"
	if ! BASE=$base "$HARNESS/fetch.sh"; then
		say "skip    $base: no source"
		add 0 0 1
		continue
	fi
	tested=$((tested + 1))
	all_cases "$base" kselftest "the series passes its tests"
	head_line "$base: real guests that go wrong"
	export BASE_UNDER_TEST="$base"
	own_tests "$base-guest" "$TOP/tests/guest"
	head_line "$base: negative control"
	control "$base"
	for patch in "$TOP/tests/mutants/$base"/*.patch; do
		[ -f "$patch" ] || continue
		head_line "$base: mutant $(basename "$patch" .patch)"
		mutant "$base" "$patch"
	done
	head_line "$base: Debian"
	all_cases "$base" userland "Debian on the series passes its tests"
	head_line "$base: Debian, negative control"
	userland_control "$base"
done

head_line "summary"
for times in "$CHECK"/*/times; do
	[ -f "$times" ] || continue
	say "$(basename "$(dirname "$times")"): $(awk '{ printf "%s%s %s s", (NR > 1 ? ", " : ""), $1, $2 }' "$times")"
done
say "logs: $CHECK; whole time: $(($(date +%s) - begin)) s"
[ "$tested" -gt 0 ] || say "no base could be tested: no source"
say "$passed passed, $failed failed, $skipped skipped"
[ "$tested" -gt 0 ] || exit "$(status source)"
[ "$failed" = 0 ] || exit "$(status failed)"
