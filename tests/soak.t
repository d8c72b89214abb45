#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# make soak: what it refuses, and that its guest gets the numbers. With a fake
# kernel and a fake QEMU.
. "$(dirname "$0")/lib.sh"
fake_world
soak=$HARNESS/commands/soak.sh

export STRESS="$T/stress"
mkdir "$STRESS"
echo 'int main(void) { return 0; }' >"$STRESS/soak.c"

wants_numbers "$soak" CYCLES LOOPS PROCESSES MANY
dies "more CYCLES than can be done" usage CYCLES= "$soak" CYCLES=9999999999
dies "fewer CYCLES than parts" usage CYCLES= "$soak" CYCLES=79
dies "more LOOPS than fit" usage LOOPS= "$soak" LOOPS=201
dies "more at once than fit" usage MANY= "$soak" MANY=9000
dies "an unknown BASE" usage BASE "$soak" BASE=v9.99
dies "a word that is no variable" usage "'soak'" "$soak" soak
check "nothing was begun" test ! -e "$OUT"

fake_qemu soak
check "a run" "$soak" KSRC="$T/ksrc" CYCLES=100 MANY=10
check "gives the guest its numbers" grep -q ' PROCESSES=4 LOOPS=64 .*CYCLES=100 MANY=10' "$OUT/commands"
check "and memory for thousands of disks" grep -q ' -m 2048 ' "$OUT/commands"
fake_qemu truncated
dies "a guest that goes away" truncated . "$soak" BASE=v5.14
finish
