#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Wrong words are refused before anything long begins.
. "$(dirname "$0")/lib.sh"
fake_world
run=$HARNESS/commands/run.sh

dies "an unknown BASE" usage "unknown BASE 'v9.99' \(there are: v5.14 v5.10 v6.12\)" "$run" BASE=v9.99
dies "an unknown DEBUG" usage DEBUG "$run" DEBUG=nonsense
dies "an unknown ARCH" usage ARCH "$run" ARCH=vax
dies "an unknown CROSS" usage CROSS "$HARNESS/commands/cross.sh" CROSS=arm,vax
dies "an unknown ACCEL" usage ACCEL "$run" ACCEL=warp
dies "a TIMEOUT that is no number" usage TIMEOUT= "$run" TIMEOUT=soon
dies "a REPEAT of 0" usage REPEAT= "$run" REPEAT=0
dies "a word that is no variable" usage "'run'" "$run" run
dies "an unknown VARIANT" usage VARIANT "$run" VARIANT=other
dies "an unknown mutant" usage nonesuch "$run" KSRC="$T/ksrc" VARIANT=mutant-nonesuch
dies "an unknown TEST" usage "'fale'" "$run" KSRC="$T/ksrc" TEST=fake,fale
dies "a WORKTREE that is no kernel" usage WORKTREE= "$run" WORKTREE="$T"
dies "a missing package with NO_INSTALL" tool " nonesuch .*NO_INSTALL" \
	env NO_INSTALL=1 HARNESS="$HARNESS" sh -c '. "$HARNESS/lib/lib.sh"; need no-such-command nonesuch sh dash' "$run"
mkdir "$T/apt"
echo '#!/bin/sh' >"$T/apt/apt-get"
printf '#!/bin/sh\nshift\nexec "$@"\n' >"$T/apt/sudo"
chmod +x "$T/apt"/*
check "that a package is installed is not said where a program reads" \
	env HARNESS="$HARNESS" PATH="$T/apt:$PATH" sh -c 'said=$(. "$HARNESS/lib/lib.sh"; need no-such-command nonesuch 2>"$1") &&
		[ -z "$said" ] && grep -q "installing Debian packages: nonesuch" "$1"' "$run" "$T/installing"

fake_qemu pass
dies "KVM for another machine's kernel" usage ARCH= env BASE=v5.14 ARCH=arm64 ACCEL=kvm "$HARNESS/stages/boot.sh"
check "OUT with a comma" env OUT="$T/a,b" "$run" BASE=v5.14
check "TEST with a pattern" "$run" BASE=v5.14 TEST='f*'
check "and it reaches the guest" grep -q "TEST=f\*" "$T/out/commands"
check "a guest that is kept waiting does not panic over its timer" grep -q ' no_timer_check ' "$T/out/commands"
check "no drives are there that no test is about" sh -c '! grep -q scsi-cd "$1"' sh "$T/out/commands"
echo diskseq_floppy_test >"$T/out/tests"
check "and where one is" "$HARNESS/stages/boot.sh"
check "they are" grep -q 'scsi-cd,id=scsi-cd.*floppy,id=floppy' "$T/out/commands"

# All that make adds is that it exits 2.
make -C "$TESTS/.." run BASE=v9.99 >"$T/said" 2>&1
said "make says the status that the stage had" 'Error 2'
check "make help names every command" sh -c 'make -C "$1" help >"$2" && for c in run userland race bench fuzz soak cross check check-full compare lint prefixes shell fetch tree export clean; do grep -q "make $c " "$2" || exit 1; done' sh "$TESTS/.." "$T/help"
check "make help fits a screen" sh -c 'awk "length > 100 { bad = 1 } END { exit bad || NR > 50 }" "$1"' sh "$T/help"
check "make help-variables has every variable of the table" sh -c 'make -C "$1" help-variables >"$2" && awk "!/^#/ { print \$1 }" "$1/harness/tables/variables" | sort -u | while read -r v; do grep -q "^  $v " "$2" || { echo "$v"; exit 1; }; done' sh "$TESTS/.." "$T/help-variables"
check "each line of their table has its columns" awk -F '\t' '!/^#/ && (NF != 6 || $0 ~ /\t\t/) { exit 1 }' "$HARNESS/tables/variables"
finish
