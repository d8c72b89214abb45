#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The tests of one run in several guests, side by side: each runs once. With boot.sh a guest
# that ends early fails the run; with guests.sh another one follows it.
. "$(dirname "$0")/lib.sh"

export OUT="$T/out" RESULTS="$T/results" BASE=v5.14 QEMU="$T/qemu" GUESTS=2 VARIANT=series
PATCHES=$T/patches DISKSEQ_CACHE=$T/cache
export PATCHES DISKSEQ_CACHE HANGING="$T/hanging"
mkdir -p "$PATCHES/v5.14"
: >"$T/none.patch"
echo ../none.patch >"$PATCHES/v5.14/series"

# A guest that does as the names of its tests say, which it has from the command line
cat >"$QEMU" <<'END'
#!/bin/sh
for word; do
	case $word in
	file:*)		console=${word#file:} ;;
	file,*tap,path=*) tap=${word##*,path=} ;;
	esac
done
tests=$(echo "$*" | sed -n 's/.* TEST=\([^ ]*\).*/\1/p' | tr , ' ')
from=$(echo "$*" | sed -n 's/.* FROM=\([^ ]*\).*/\1/p')
[ -z "$from" ] || tests=$from${tests#*"$from"}
echo '[ 0.0] Linux version' >"$console"
case $tests in
*nothing*) exit 1 ;;
*unbootable*) exit ;;
esac
{
	echo TAP version 13
	tests=$(echo " $tests " | sed 's/ lost / /')
	echo "1..$(echo "$tests" | wc -w)"
	number=0
	for test in $tests; do
		number=$((number + 1))
		echo "[ $number.0] diskseq: test $test" >>"$console"
		printf '# selftests: block: %s\n# TAP version 13\n# 1..1\n# #  RUN  a.%s ...\n' "$test" "$test"
		case $test in
		panic*)	echo '[ 9.0] Kernel panic - not syncing: for a test' >>"$console"; exit ;;
		hang*)	echo $$ >>"$HANGING"; exec sleep 60 ;;
		gone*)	exit ;;
		twice*)	printf '# ok 1 a.%s\nok %d selftests: block: %s\n# time: %s 0.1 s\n' "$test" "$number" "$test" "$test"
			printf '# selftests: block: %s\n# TAP version 13\n# 1..1\n# #  RUN  a.%s ...\n' "$test" "$test"
			exit ;;
		warn*)	echo '[ 9.0] WARNING: CPU: 0 PID: 1 at a.c' >>"$console" ;;
		slow*)	sleep 1 ;;
		esac
		printf '# ok 1 a.%s\nok %d selftests: block: %s\n# time: %s 0.1 s\n' "$test" "$number" "$test" "$test"
	done
	echo '# end of results'
} >"$tap"
echo "[ 99.0] diskseq: end of tests" >>"$console"
END
chmod +x "$QEMU"

# prepared TEST...: $OUT, as run.sh does
prepared() {
	rm -rf "$OUT"
	mkdir -p "$OUT"
	printf '%s\n' "$@" >"$OUT/tests"
	: >"$OUT/times"
	: >"$OUT/commands"
}
spread() { prepared "$@" && "$HARNESS/stages/spread.sh" boot.sh && "$HARNESS/stages/results.sh"; }
# A kernel that was built elsewhere: what ends a guest costs its own program only.
stock() { prepared "$@" && "$HARNESS/stages/spread.sh" guests.sh; }
guests() { grep -c . "$OUT/commands"; }
ran() { sed -n 's/^ok \([0-9]*\) selftests: block: \(.*\)/\2/p' "$1" | sort | xargs; }

check "four tests" spread slow one two three
cp "$T/said" "$T/printed"
said "are all counted" '4 cases passed, 0 failed, 0 skipped'
check "two guests ran them" same "$(guests)" 2
check "each test once" same "$(ran "$OUT/results.tap")" "one slow three two"
check "their results are one TAP" same "$(grep -cxE '1\.\.4|# end of results' "$OUT/results.tap")" 2
check "with numbers of its own" same "$(sed -n 's/^ok \([0-9]*\) .*/\1/p' "$OUT/results.tap" | xargs)" "1 2 3 4"
check "what a program printed is in one piece" same "$(awk '/^# selftests/ { n = $4 } /^# ok 1 a\./ && $4 != "a." n { print }' "$OUT/results.tap")" ""
check "the output is TAP too" same "$(ran "$T/printed")" "one slow three two"
check "both consoles are there" same "$(grep -c 'Linux version' "$OUT/console.log")" 2
check "the time of each stage is there once" same "$(grep -cE '^(boot|tests) ' "$OUT/times")" 2
export TEST=one
check "one test" spread one
unset TEST
check "needs one guest" same "$(guests)" 1
dies "a guest that panics" oops "panicked during panic: Kernel panic" spread one panic
check "does not keep the other from its tests" same "$(ran "$OUT/results.tap")" one
dies "one that goes away" truncated "went away during gone" spread one gone
dies "one that runs fewer tests than it should" truncated "none of the guests" spread one two lost
dies "one that reports a bug" oops "reported a bug during warn" spread one warn
export TIMEOUT=1
dies "one that hangs" timeout "hang was running" spread one hang
dies "one that panics beside it" oops "panicked during panic" spread hang panic
unset TIMEOUT
dies "QEMU that does not start" qemu "$OUT/guest-1/qemu.log" spread nothing-1 nothing-2
export ACCEL=kvm KVM_DEVICE="$T/none"
dies "a guest that is not even begun" qemu "$T/none" spread one two
unset ACCEL KVM_DEVICE

check "guests that end before their tests do" stock one panic two gone three
cp "$T/said" "$T/printed"
check "are followed by others" same "$(guests)" 3
check "each test has a result" same "$(cut -f2 "$OUT/results" | sort | xargs)" "gone one panic three two"
check "the cases that ended a guest have failed" same "$(sed -n 's/^fail	[^	]*	\(.*\)/\1/p' "$OUT/results" | sort | xargs)" \
	"a.gone - not reported (the guest went away) a.panic - not reported (Kernel panic - not syncing: for a test)"
check "the output is TAP of all" same "$(sed -n 's/^\(not \)*ok \([0-9]*\) selftests: .*/\2/p' "$T/printed" | xargs)" "1 2 3 4 5"
check "the consoles of all are there" same "$(grep -c 'Linux version' "$OUT/console.log")" 3
check "the time of each stage is there once" same "$(grep -cE '^(boot|tests) ' "$OUT/times")" 2
dies "a kernel that boots in none" boot "before the first test" stock unbootable unbootable-2
dies "one that boots in one only" boot "before the first test" stock one unbootable
check "a test without results" stock one lost two
dies "fails the run" truncated "no results of lost" "$HARNESS/stages/promise.sh"
check "a test that ends its guest the second time (REPEAT=)" stock one twice
check "has failed" grep -q "^fail	twice	a.twice - not reported" "$OUT/results"

begun() { [ "$(grep -c . "$HANGING")" = 2 ]; }
ended() { [ -z "$(ps -o pid= -p "$(paste -s -d , "$HANGING")")" ]; }
for stage in boot.sh guests.sh; do
	prepared hang-1 hang-2
	: >"$HANGING"
	"$HARNESS/stages/spread.sh" "$stage" >/dev/null 2>&1 &
	spread=$!
	check "two guests that hang, $stage" soon begun
	kill "$spread"
	check "end with the run" soon ended
done

# Whichever guest changes media has the drives for it.
selftests=$HARNESS/../tools/testing/selftests/block
# shellcheck disable=SC2013 # words
for source in $(grep -lE 'include "diskseq_(cdrom|qmp)\.h"' "$selftests"/*_test.c); do
	TEST=$(basename "$source" .c)
	export TEST
	check "$TEST" spread "$TEST"
	check "has the drives of QEMU" grep -q 'id=sata-cd' "$OUT/commands"
done
unset TEST

# Which guest runs which test
printf 'long\t9\nshort\t2\n' >"$T/durations"
shares() { printf '%s\n' "$@" | awk -v guests=2 -f "$HARNESS/awk/spread.awk" "$T/durations" - | tr '\n' ,; }
check "the long one has a guest to itself" same "$(shares a b short long c)" "2 a,2 b,2 short,1 long,2 c,"
check "tests of which nothing is known are halved" same "$(shares a b c d)" "1 a,2 b,1 c,2 d,"
check "each program in the table is a test" sh -c 'sed "/^#/d" "$1/tables/durations" | while read -r name _; do
	[ -f "$2/$name.c" ] || { echo "$name"; exit 1; }; done' sh "$HARNESS" "$selftests"
finish
