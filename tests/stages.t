#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Patching, configuring and building, with a fake kernel.
. "$(dirname "$0")/lib.sh"
fake_world
fake_qemu pass
run=$HARNESS/commands/run.sh
cache=$T/cache/diskseq
tree=$cache/tree/v5.14-series

builds() { wc -l <"$tree/build/builds"; }

check "a first run" "$run" KSRC="$T/ksrc"
check "the tree is patched" grep -qx TWO "$tree/block/genhd.c"
check "the pristine source is not, though it is linked" diff -r "$T/ksrc" "$cache/src/v5.14"
check "untouched files are links" same "$(stat -c %h "$tree/block/other.c")" 2
check "the kernel that booted is the patched one" grep -qx TWO "$T/out/kernel"
check "each stage's time is noted" sh -c 'for s in fetch patch configure build selftests initramfs boot; do grep -q "^$s .* s$" "$1" || exit 1; done' sh "$T/out/times"

check "a second run" "$run"
check "it builds nothing" same "$(builds)" 1

check "a run for another architecture" "$run" ARCH=i386
check "has a build of its own" test -e "$tree/build-i386/kept"
check "with a configuration of its own" grep -qx '# CONFIG_64BIT is not set' "$tree/build-i386/.config"
check "and programs" grep -q "CC=gcc -m32 .* -static " "$T/out/commands"

other=$(stat -c %Y%i "$tree/block/other.c")
fs=$(stat -c %y "$tree/include/uapi/linux/fs.h")
sleep 1
fake_patch 2 block/genhd.c four FOUR
check "a patch more" "$run"
check "is built" same "$(builds)" 2
check "is there" grep -qx FOUR "$tree/block/genhd.c"
check "and no other file is newer" same "$other$fs" "$(stat -c %Y%i "$tree/block/other.c")$(stat -c %y "$tree/include/uapi/linux/fs.h")"

fake_unpatch 2
touch "$T/before"
sleep 1
check "a patch less" "$run"
check "goes back" grep -qx four "$tree/block/genhd.c"
check "and the file is newer for it" test "$tree/block/genhd.c" -nt "$T/before"

# A patch that does not apply.
author reset -q --hard HEAD~1
fake_patch 2 block/genhd.c four FOUR
sed -i 's/^ three/ drei/' "$PATCHES"/v5.14/*/0002*
before=$(cd "$tree" && find . -path ./.git -prune -o -type f -printf '%P %T@ %i\n' | sort | sha256sum)
dies "a patch that does not apply" patch "0002 patch 2" "$run"
check "the tree is as it was" same "$before" "$(cd "$tree" && find . -path ./.git -prune -o -type f -printf '%P %T@ %i\n' | sort | sha256sum)"
echo 'not a patch' >"$(echo "$PATCHES"/v5.14/*/0002*)"
dies "a patch that is none" patch . "$run"
fake_unpatch 2
check "afterwards all is well again" "$run"

echo 'CONFIG_NO_SUCH_THING=y' >"$T/config"
dies "a config symbol that does not take" config CONFIG_NO_SUCH_THING \
	env CONFIG="$T/config" "$run"

author reset -q --hard HEAD~1
fake_patch 2 block/genhd.c four '#error oops'
dies "a build error" build "$T/out/build.log" "$run"
author reset -q --hard HEAD~1
fake_patch 2 block/genhd.c four 'the disk is full'
dies "a disk that fills up during the build" disk . "$run"
fake_unpatch 2
check "a build after a failed one" "$run"
rm -rf "$PATCHES/v5.14"
dies "no patches at all" patch . "$run"
mkdir "$PATCHES/v5.14"
author reset -q --hard HEAD~1
fake_patch 1 block/genhd.c two TWO

# Two at once, each with its own folder.
OUT=$T/out1 "$run" >"$T/said1" 2>&1 &
first=$!
check "two runs side by side: the second" env OUT="$T/out2" "$run"
check "two runs side by side: the first" wait "$first"

# Stopped at any moment: the next one is none the worse. Builds that are killed
# are kbuild's own matter; what is ours are the trees.
rm -rf "$cache/tree"
for ms in 1 2 3 4 6 8 10 14; do
	setsid "$HARNESS/commands/run.sh" >"$T/said" 2>&1 &
	sleep "$(awk -v n=$ms 'BEGIN { print n / 10 }')"
	kill -s INT -- "-$!" 2>/dev/null || :
	kill -s TERM -- "-$!" 2>/dev/null || :
	wait "$!" || echo "$ms" >>"$T/stopped"
done
check "stopped half-way, four times at the least" test "$(wc -l <"$T/stopped")" -ge 4
check "and then run" "$run"
check "patched, once" same "$(tr '\n' ' ' <"$tree/block/genhd.c")" "one TWO three four five "
check "no temporary directory stays" same "$(find "$cache/tmp" -mindepth 1)" ""
finish
