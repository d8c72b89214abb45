#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Packs what the Debian guest is to run into $OUT/tests.tar: userland/'s tests
# and example, and the programs.

. "$(dirname "$0")/../lib/lib.sh"

: "${OUT:?}"

need gcc gcc /usr/include/libudev.h libudev-dev
make_scratch
cp -r "$USERLAND/guest" "$USERLAND/tests" "$USERLAND/example" "$scratch/"
gcc -static -O2 -Wall -Wextra -o "$scratch/guest/diskseq" "$USERLAND/guest/diskseq.c" \
	>"$OUT/payload.log" 2>&1 ||
	die_log build "$OUT/payload.log" "userland/guest/diskseq.c does not build"
# Linked with this machine's libc, run with the guest's, which may be older: as C of
# 2023 it would ask for functions that Debian 12 lacks.
gcc -std=gnu17 -O2 -Wall -Wextra -o "$scratch/guest/diskseq-wait" "$USERLAND/example/diskseq-wait.c" -ludev \
	>"$OUT/payload.log" 2>&1 ||
	die_log build "$OUT/payload.log" "userland/example/diskseq-wait.c does not build"
tar -C "$scratch" --owner=0 --group=0 -cf "$OUT/tests.tar" guest tests example
