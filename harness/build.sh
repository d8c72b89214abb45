#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Builds the kernel of $TREE in $BUILD, with kbuild, and puts it into $OUT. ccache makes the second
# tree of a base cheap: $BUILD lies directly in $TREE, so kbuild names every
# file by the same relative path in each of them.

. "$(dirname "$0")/lib.sh"

: "${TREE:?}" "${BUILD:?}" "${OUT:?}"

# Built kernels are kept by what they were built from, so that one tree can go
# from mutant to mutant and back. A tree that somebody works in has no stamp and
# is always looked at.
kept=$BUILD/kept
key=$({
	cat "$TREE/.git/diskseq-stamp" 2>/dev/null || :
	cat "$BUILD/.config" "$HARNESS/build.sh"
	gcc --version
} | sha256sum | cut -d' ' -f1)

put() {
	cp "$1" "$OUT/bzImage" 2>"$OUT/copy.log" ||
		die_log build "$OUT/copy.log" "cannot copy bzImage"
}

if [ -f "$TREE/.git/diskseq-stamp" ] && [ -f "$kept/$key" ]; then
	touch "$kept/$key"
	put "$kept/$key"
	exit 0
fi

need flex flex bison bison bc bc ccache ccache \
	/usr/include/libelf.h libelf-dev
room 1000 "$CACHE"

# objtool's libsubcmd stops with gcc 12 (-Werror=use-after-free) in v5.14; this
# reaches the tools' makefiles by the variable that they have for it.
set -- O="$BUILD" CC='ccache gcc' HOSTCC='ccache gcc' \
	EXTRA_CFLAGS=-Wno-use-after-free LOCALVERSION= -j"$(nproc)" bzImage
echo "make -C $TREE $*" >>"$OUT/commands"
progress "kernel $BASE${DEBUG:+ $DEBUG}" "$OUT/build.log" kmake "$@" || {
	grep -m 3 -E '(error|Error):? ' "$OUT/build.log" | sed 's/^/    /' >&2
	die_log build "$OUT/build.log" "the kernel does not build"
}
put "$BUILD/arch/x86/boot/bzImage"
[ -f "$TREE/.git/diskseq-stamp" ] || exit 0

# The sixteen that were used last, some megabytes each.
mkdir -p "$kept"
cp "$OUT/bzImage" "$kept/.new"
mv "$kept/.new" "$kept/$key"
find "$kept" -type f -printf '%T@ %p\n' | sort -rn | tail -n +17 | cut -d' ' -f2- | xargs -r rm -f
