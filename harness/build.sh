#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Builds the kernel of $TREE in $BUILD, with kbuild. ccache makes the second
# tree of a base cheap: $BUILD lies directly in $TREE, so kbuild names every
# file by the same relative path in each of them.

. "$(dirname "$0")/lib.sh"

: "${TREE:?}" "${BUILD:?}" "${OUT:?}"

# Nothing to do where nothing changed since the last complete build; a tree
# that somebody works in has no stamp and is always looked at.
key=$({
	cat "$TREE/.git/diskseq-stamp" 2>/dev/null || :
	cat "$BUILD/.config" "$HARNESS/build.sh"
	gcc --version
} | sha256sum)
if [ -f "$TREE/.git/diskseq-stamp" ] && [ -f "$BUILD/arch/x86/boot/bzImage" ] &&
   [ "$(cat "$BUILD/diskseq.built" 2>/dev/null)" = "$key" ]; then
	exit 0
fi

need flex flex bison bison bc bc ccache ccache \
	/usr/include/libelf.h libelf-dev
room 1000 "$CACHE"
rm -f "$BUILD/diskseq.built"

# objtool's libsubcmd stops with gcc 12 (-Werror=use-after-free) in v5.14; this
# reaches the tools' makefiles by the variable that they have for it.
set -- O="$BUILD" CC='ccache gcc' HOSTCC='ccache gcc' \
	EXTRA_CFLAGS=-Wno-use-after-free LOCALVERSION= -j"$(nproc)" bzImage
echo "make -C $TREE $*" >>"$OUT/commands"
progress "kernel $BASE${DEBUG:+ $DEBUG}" "$OUT/build.log" kmake "$@" || {
	grep -m 3 -E '(error|Error):? ' "$OUT/build.log" | sed 's/^/    /' >&2
	die_log build "$OUT/build.log" "the kernel does not build"
}
echo "$key" >"$BUILD/diskseq.built"
