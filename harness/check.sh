#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Everything that can be tested here: lint, the harness's own tests, and for
# each base whose source can be had
#   - the selftests under full load on the patched kernel,
#   - the harness's tests that want a real guest,
#   - the negative control: on the unpatched kernel no case may pass that
#     tests/control does not name,
#   - both again with a Debian as the guest,
#   - the mutants: kernels with one thing broken, on which the cases that the
#     mutant names must fail.
# Goes on after a failure. The last line counts.

. "$(dirname "$0")/lib.sh"
. "$HARNESS/base.sh"

need prove perl
CHECK=$TOP/out/$(date +%Y%m%d-%H%M%S)-$$-check
mkdir -p "$CHECK" 2>/dev/null || die disk "cannot make $CHECK"
ln -sfn "${CHECK##*/}" "$TOP/out/last"
passed=0 failed=0 skipped=0
unset TEST REPEAT VARIANT GUEST WORKTREE DEBUG SHELL_ONLY HOOK OUT
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

# run BASE VARIANT NAME=VALUE...: run.sh into a folder of its own, with $guest
guest=kselftest
run() {
	base=$1 variant=$2
	shift 2
	out=$CHECK/$base-$variant
	[ "$guest" = kselftest ] || out=$out-$guest
	mkdir -p "$out"
	logged "$out/run.log" env BASE="$base" VARIANT="$variant" GUEST="$guest" OUT="$out" \
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

full_load() {
	status=0
	run "$1" series || status=$?
	add "$(count pass "$out/results")" "$(count fail "$out/results")" "$(count skip "$out/results")"
	verdict "$status" "$1: the series passes its tests ($guest)"
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
	# A probe that finds no feature would skip a test which asserts nothing. The
	# Debian's tests are there for its programs and skip.
	probe=1
	[ "$guest" = kselftest ] || probe=
	run "$1" base DISKSEQ_NO_PROBE="$probe" || status=$?
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
	[ "$guest" = kselftest ] || [ "$(count fail "$out/results")" = 0 ] || status=1
	verdict "$status" "$1: the negative control ($guest): $(count fail "$out/results") cases fail, $(count skip "$out/results") skip, $(count pass "$out/results") pass and may"
}

# "Must-fail: PROGRAM CASE" in the mutant's head
mutant() {
	name=$(basename "$2" .patch)
	sed -n 's/^Must-fail: //p' "$2" >"$CHECK/must-fail"
	programs=$(cut -d' ' -f1 "$CHECK/must-fail" | sort -u | tr '\n' ,)
	status=0
	run "$1" "mutant-$name" DISKSEQ_CYCLES= TEST="${programs%,}" || status=$?
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
	full_load "$base"
	head_line "$base: real guests that go wrong"
	export BASE_UNDER_TEST="$base"
	own_tests "$base-guest" "$TOP/tests/guest"
	head_line "$base: negative control"
	control "$base"
	head_line "$base: a Debian as the guest"
	guest=userland
	full_load "$base"
	control "$base"
	guest=kselftest
	own_tests "$base-guest-userland" "$TOP/tests/guest-userland"
	for patch in "$TOP/tests/mutants/$base"/*.patch; do
		[ -f "$patch" ] || continue
		head_line "$base: mutant $(basename "$patch" .patch)"
		mutant "$base" "$patch"
	done
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
