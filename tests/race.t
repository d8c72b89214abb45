#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# make race: what it refuses, and that the last results stay until there are new
# ones. With a fake kernel and a fake QEMU.
. "$(dirname "$0")/lib.sh"
sh -c '. "$1/lib/lib.sh"; need gnuplot gnuplot-nox' "$HARNESS/lib/lib.sh" "$HARNESS" >&2
fake_world
unset OUT
race=$HARNESS/commands/race.sh

sum() { find -L "$RESULTS/race" -type f -exec sha256sum {} + | sort | sha256sum; }

# stress/race.c wants the series' selftests.
export STRESS="$T/stress"
cp -r "$TESTS/../stress" "$STRESS"
echo 'int main(void) { return 0; }' >"$STRESS/race.c"

dies "an unknown WAY" usage WAY "$race" WAY=luck
wants_numbers "$race" ATTACHES PROCESSES LOOPS BUFFER LIMIT
dies "more PROCESSES than fit" usage PROCESSES= "$race" PROCESSES=201
dies "far more ATTACHES than fit" usage ATTACHES= "$race" ATTACHES=99999999999999999999
dies "an unknown BASE" usage BASE "$race" BASE=v9.99
dies "a word that is no variable" usage "'race'" "$race" race
check "nothing was begun" test ! -e "$RESULTS"

printf 'v5.14\t5.14\ttarball\thttp://127.0.0.1:9/linux-5.14.tar.xz\t0\n' >"$T/sources"
dies "a base that cannot be had" source v5.14 env SOURCES="$T/sources" "$race" BASE=v5.14

fake_qemu race
check "a race" "$race" KSRC="$T/ksrc" ATTACHES=100
said "there is a table" '^unpatched name +8 +4 +1 +0 +13'
said "and who goes by the number is never wrong" '^patched +diskseq +0 +0 +0 +0 +12 +7 +5 '
check "the figures, table and picture are in out/race" sh -c 'for f in race.txt race.tsv race.svg quantiles.tsv; do [ -s "$1/race/$f" ] || exit 1; done' sh "$RESULTS"
check "the picture is one" grep -q '</svg>' "$RESULTS/race/race.svg"
check "each leg has the same program" same "$(find -L "$RESULTS/race" -path '*/stress/race' -exec sha256sum {} + | cut -d' ' -f1 | uniq | wc -l)" 1
check "each leg knows its way" same "$(grep -oh 'RACE_WAY=[a-z]*' "$RESULTS"/race/*/commands | sort | uniq -c | tr -s ' \n' ' ')" " 1 RACE_WAY=diskseq 2 RACE_WAY=name "
check "and how much to do" grep -q ' ATTACHES=100 ' "$RESULTS/race/series-diskseq/commands"
before=$(sum)

dies "a base that cannot be had, later" usage BASE "$race" BASE=v9.99
fake_qemu race-tame
dies "a load that provokes nothing" control ATTACHES= "$race" BASE=v5.14 ATTACHES=100
said "it says where the last results are" out/race
check "and they are whole" same "$before" "$(sum)"
fake_qemu truncated
dies "a guest that goes away" truncated . "$race" BASE=v5.14
check "the last results are whole" same "$before" "$(sum)"
fake_qemu pass
dies "a guest that says no figures" truncated . "$race" BASE=v5.14
check "the last results are still whole" same "$before" "$(sum)"

# Interrupted while a guest runs
fake_qemu race hang
rm "$RESULTS/last"
interrupted "$RESULTS/last/series-diskseq/console.log" "$race" BASE=v5.14
check "interrupted: they are whole" same "$before" "$(sum)"
# The fake QEMU sleeps for 60 s.
check "interrupted: QEMU is gone" sh -c '
	for _ in 1 2 3 4 5 6 7 8 9 10; do pgrep -s "$1" -fx "sleep 60" || exit 0; sleep 0.2; done; exit 1' sh "$interrupted_pid"

# By one way only
fake_qemu race
check "only by diskseq" "$race" BASE=v5.14 WAY=diskseq
check "has one line" same "$(wc -l <"$RESULTS/race/race.tsv")" 1
finish
