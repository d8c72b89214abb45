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

for name in CYCLES LOOPS PROCESSES MANY; do
	dies "$name=0" usage "$name='0' is no number above 0" "$soak" $name=0
	dies "$name=some" usage "$name='some' is no number above 0" "$soak" $name=some
done
dies "more CYCLES than can be done" usage "CYCLES='9999999999' is more than 1000000000" "$soak" CYCLES=9999999999
dies "fewer CYCLES than parts" usage "CYCLES='79' is less than 20 for each of 4 processes" "$soak" CYCLES=79
dies "more LOOPS than fit" usage "LOOPS='201' is more than 200" "$soak" LOOPS=201
dies "more at once than fit" usage "MANY='9000' is more than 8192" "$soak" MANY=9000
dies "an unknown BASE" usage "unknown BASE 'v9.99'" "$soak" BASE=v9.99
dies "a word that is no variable" usage "'soak' is not NAME=VALUE" "$soak" soak
check "nothing was begun" test ! -e "$OUT"

fake_qemu soak
check "a run" "$soak" KSRC="$T/ksrc" CYCLES=100 MANY=10
check "gives the guest its numbers" grep -q ' PROCESSES=4 LOOPS=64 .*CYCLES=100 MANY=10' "$OUT/commands"
check "and memory for thousands of disks" grep -q ' -m 2048 ' "$OUT/commands"
fake_qemu truncated
dies "a guest that goes away" truncated "the guest went away" "$soak" BASE=v5.14
finish
