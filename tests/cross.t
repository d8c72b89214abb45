#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What is compiled for other architectures, and what counts as a failure: with a
# makefile that builds, fails, warns or has no such object by architecture.
. "$(dirname "$0")/lib.sh"
fake_world
cross=$HARNESS/commands/cross.sh
cat >>"$T/ksrc/Makefile" <<'END'
allmodconfig:
> [ $(ARCH) != riscv ] || { echo 'no such architecture'; exit 1; }
> : >$(O)/.config
prepare: ;
block/genhd.o:
> @case $(ARCH) in \
> arm) ;; \
> mips) ! grep -q TWO block/genhd.c || { echo 'block/genhd.c:2:1: error: no'; exit 1; } ;; \
> alpha) echo 'include/other.h:2:1: error: no'; exit 1 ;; \
> sh) echo 'block/genhd.c:2:1: warning: unused' ;; \
> parisc) echo 'block/other.c:2:1: warning: unused' ;; \
> m68k) echo "make: *** No rule to make target 'block/genhd.o'. Stop."; exit 1 ;; \
> esac
> mkdir -p $(O)/block && echo object >$(O)/block/genhd.o
END
mkdir "$T/bin"
sed -n 's/^[a-z][a-z0-9]*\t\([^\t]*\).*/\1gcc/p' "$HARNESS/tables/cross-arches" |
	xargs -I{} ln -s /bin/true "$T/bin/{}"
export PATH="$T/bin:$PATH" BASE=v5.14 KSRC="$T/ksrc"

check "one that builds" "$cross" CROSS=arm
said "counts" '^v5.14 cross: 1 cases passed, 0 failed, 0 skipped$'
check "once more" "$cross" CROSS=arm,parisc
said "another file's warning does not count" '^v5.14 cross: 2 cases passed, 0 failed, 0 skipped$'
dies "one that does not build" failed . "$cross" CROSS=arm,mips
said "is named" 'failed: v5.14 mips block/genhd.o'
dies "a warning of ours" failed . "$cross" CROSS=sh
said "is shown" 'failed: v5.14 sh block/genhd.c:2:1: warning'
check "one that the unpatched kernel does not build either" "$cross" CROSS=arm,alpha
said "is skipped" 'skipped: v5.14 alpha block/genhd.o: does not build without'
said "and counted so" '^v5.14 cross: 1 cases passed, 0 failed, 1 skipped$'
dies "where the architecture has none of them" nothing . "$cross" CROSS=m68k
said "they are skipped" 'skipped: v5.14 m68k block/genhd.o'
dies "one that cannot be configured" build riscv "$cross" CROSS=riscv
finish
