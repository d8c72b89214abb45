#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# make bench: what is refused, what its table says, and that a run that does not
# come to its end leaves the last results whole.
. "$(dirname "$0")/lib.sh"
unset ROUNDS ITEM PROGRAM SMP ICOUNT SIZES
fake_world
fake_qemu bench
unset OUT
cp "$TESTS/../tools/testing/selftests/block/"diskseq*.h "$T/ksrc/tools/testing/selftests/block/"

export STRESS="$TESTS/../stress"
bench=$HARNESS/commands/bench.sh
out=$RESULTS

dies "no such item" usage "'getdisk'" "$bench" ITEM='get*,getdisk'
dies "too many rounds" usage ROUNDS= "$bench" ROUNDS=101
wants_numbers "$bench" ROUNDS
dies "an unknown BASE" usage BASE "$bench" BASE=v9.99
dies "a word that is no variable" usage "'bench'" "$bench" bench
printf 'v5.14\t5.14\ttarball\thttp://127.0.0.1:9/linux-5.14.tar.xz\t0\n' >"$T/sources"
dies "a work tree of no base" usage WORKTREE "$bench" WORKTREE="$T"
dies "a base that cannot be had" source v5.14 env SOURCES="$T/sources" "$bench" BASE=v5.14
check "none of these is a result" test ! -e "$out/bench"

check "a run" "$bench" KSRC="$T/ksrc" ITEM='get*,roget' ROUNDS=1
check "out/bench is its folder" test -s "$out/bench/bench.txt"
last=$(readlink "$out/bench")
# row WHAT: the line of the table of instructions
row() {
	awk -v what="$1" '/^instructions/ { on = 1 } !NF { on = on && !n++ } on && index($0, what)' \
		"$out/bench/bench.txt"
}
check "the median is compared with the cheaper ioctl" \
	sh -c 'echo "$1" | grep -E "330 +1.100 +1.05 missed$"' sh "$(row BLKGETDISKSEQ)"
check "other items with the unpatched kernel" \
	sh -c 'echo "$1" | grep -E " 310 +310 +1.000"' sh "$(row BLKGETSIZE64)"
check "each kernel's guest counted instructions" \
	grep -q -e '-smp 1 .*ICOUNT=1.* -icount' "$out/bench/base-instructions-1/commands" "$out/bench/series-instructions-1/commands"
check "an ioctl alone is asked for" "$bench" ITEM=getdiskseq-many ROUNDS=1
check "and measured with what it is compared with, on either kernel" \
	sh -c 'grep -h -o "ITEM=[^ ]*" "$@" | sort | uniq -c | grep -qx " *2 ITEM=getdiskseq-many,getdiskseq,getsize64,roget"' sh \
	"$out/bench/base-instructions-1/commands" "$out/bench/series-instructions-1/commands"
last=$(readlink "$out/bench")

fake_qemu truncated
dies "a guest that dies" truncated . "$bench" ITEM=roget ROUNDS=1
said "says that there are earlier results" out/bench
check "and leaves them" test "$(readlink "$out/bench")" = "$last"

rm "$out/last"
fake_qemu bench hang
interrupted "$out/last/base-instructions-1/results.tap" "$bench" ITEM=roget ROUNDS=1
check "interrupted: the last results are there" test "$(readlink "$out/bench")" = "$last"
finish
