#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# make check-full: what it says beforehand, that it goes on where it was stopped, and
# what counts. With a fake kernel and a fake QEMU.
. "$(dirname "$0")/lib.sh"
fake_world
unset OUT
fake_qemu pass
full=$HARNESS/commands/check-full.sh
canned=$TESTS/canned
table() { sed 1d "$RESULTS/full/table.tsv" | cut -f1,2,3,4,5,7 | tr '\t' ' '; }
legs() { printf '%b' "$1" >"$T/legs"; }
export FULL_LEGS="$T/legs"

legs 'one\trun\tREPEAT=2\ntwo\trun\tREPEAT=3\n'
dies "an unknown LEG" usage LEG "$full" LEG=three
dies "an unknown BASE" usage BASE "$full" BASE=v9.99
check "nothing was begun" test ! -e "$RESULTS"
printf 'v5.14\t5.14\ttarball\thttp://127.0.0.1:9/linux-5.14.tar.xz\t0\n' >"$T/sources"
export SOURCES="$T/sources"
check "no source: it fails" sh -c '"$1"; test $? = 10' sh "$full"
check "(a base)" env BASE=v5.14 KSRC="$T/ksrc" "$HARNESS/stages/fetch.sh"

check "two legs" "$full"
said "it says what it will run" '^to run  v5.14-one \(not run yet\)$'
said "and counts both in its last line" '^6 passed, 0 failed, 2 skipped$'
check "the table has a line for each" same "$(table)" "one v5.14 3 0 1 ok
two v5.14 3 0 1 ok"
check "each leg has its variables" grep -q 'REPEAT=3' "$RESULTS/full/v5.14-two/commands"

check "again, when all was run: all over again" "$full"
said "it says how long that took" '^to run  v5.14-two \([0-9]+ s last time\)$'

check "one leg" "$full" LEG=two
check "is the only one" same "$(table)" "two v5.14 3 0 1 ok"
check "after it, all" "$full"
said "do not run it again" '^done    v5.14-two$'
check "and the table has both" same "$(table | cut -d' ' -f1 | xargs)" "one two"
check "one base" "$full" BASE=v5.14
check "after it, all" "$full"
said "do not run it again either" '^done    v5.14-one$'

legs 'one\trun\tREPEAT=2\tv5.10\none\trun\tREPEAT=4\tv5.14\n'
check "a leg with a line for each base" "$full"
said "has this base's variables" '^== v5.14 one: make run REPEAT=4$'
check "and no others" same "$(table | cut -d' ' -f1,2 | xargs)" "one v5.14"

legs "one\trun\tREPEAT=2\nbad\trun\tCANNED=$canned/failed\nlast\trun\tREPEAT=3\n"
check "a leg that fails fails the whole" sh -c '! "$1"' sh "$full"
check "and the others run" same "$(table | cut -d' ' -f1 | xargs)" "one bad last"
check "the next call" sh -c '! "$1"' sh "$full"
said "runs the one that failed" '^to run  v5.14-bad '
said "and not the others" '^done    v5.14-last$'
sleep 1
touch "$PATCHES/v5.14/series"
check "one after a change" sh -c '! "$1"' sh "$full"
said "runs the others too" '^to run  v5.14-last '
legs "gone\trun\tCANNED=$canned/truncated\n"
check "a guest that goes away" sh -c '! "$1"' sh "$full"
check "counts as a failure" same "$(table | cut -d' ' -f1,4)" "gone 1"

# The fake QEMU shows the same report on the unpatched kernel.
legs "both\trun\tCANNED=$canned/warning\n"
check "what the unpatched kernel reports too does not count" "$full"
check "though it was run" test -s "$RESULTS/full/v5.14-both/unpatched/reports"

# Stopped in its second leg
legs "one\trun\tREPEAT=2\ntwo\trun\tFAKE_END=hang\nthree\trun\tREPEAT=3\n"
rm -rf "$RESULTS/full"
interrupted "$RESULTS/full/v5.14-two/console.log" "$full"
legs "one\trun\tREPEAT=2\ntwo\trun\tREPEAT=4\nthree\trun\tREPEAT=3\n"
check "the next call" "$full"
said "does not run again what came to its end" '^done    v5.14-one$'
check "and its table has all" same "$(table | cut -d' ' -f1 | xargs)" "one two three"
finish
