#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# make fuzz: what it refuses, and that its guest gets the seed, which is said. With
# a fake kernel and a fake QEMU; tests/guest has a real one.
. "$(dirname "$0")/lib.sh"
fake_world
fuzz=$HARNESS/commands/fuzz.sh

export STRESS="$T/stress"
mkdir "$STRESS"
echo 'int main(void) { return 0; }' >"$STRESS/fuzz.c"

wants_numbers "$fuzz" SEED OPERATIONS PROCESSES
dies "a SEED of more than 64 bits" usage SEED= \
	"$fuzz" SEED=9999999999999999999
dies "more OPERATIONS than fit" usage OPERATIONS= "$fuzz" OPERATIONS=999999999
dies "more PROCESSES than fit" usage PROCESSES= "$fuzz" PROCESSES=201
dies "an unknown BASE" usage BASE "$fuzz" BASE=v9.99
dies "a word that is no variable" usage "'fuzz'" "$fuzz" fuzz
check "nothing was begun" test ! -e "$OUT"

fake_qemu fuzz
check "a run" "$fuzz" KSRC="$T/ksrc" SEED=7 OPERATIONS=100
said "says its seed" '^seed: 7$'
check "and gives it to the guest" grep -q ' SEED=7 .*OPERATIONS=100' "$OUT/commands"
check "without a seed" "$fuzz" BASE=v5.14 OPERATIONS=100
said "says which it took" '^seed: [1-9][0-9]+$'
check "and gives that to the guest" grep -q " SEED=$(sed -n 's/^seed: //p' "$T/said") " "$OUT/commands"
fake_qemu oops
dies "an oops" oops . "$fuzz" BASE=v5.14 SEED=7
finish
