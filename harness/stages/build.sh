#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Builds the kernel of $TREE in $BUILD, with kbuild, and puts it into $OUT, with its
# modules in $OUT/modules if it has any. ccache makes the second tree of a base
# cheap: $BUILD lies directly in $TREE, so kbuild names every file by the same
# relative path in each of them.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/kbuild.sh"

: "${TREE:?}" "${BUILD:?}" "${OUT:?}"

# Built kernels are kept by what they were built from, so that one tree can go
# from mutant to mutant and back. A work tree has no stamp and
# is always built, and so is a kernel with modules.
kept=$BUILD/kept
key=$({
	cat "$TREE/.git/diskseq-stamp" 2>/dev/null || :
	cat "$BUILD/.config" "$HARNESS/stages/build.sh" "$HARNESS/lib/kbuild.sh" "$HARNESS/lib/arch.sh"
	"$kernel_gcc" --version
} | sha256sum | cut -d' ' -f1)

has_modules() {
	grep -qx CONFIG_MODULES=y "$BUILD/.config"
}

put() {
	cp "$1" "$OUT/kernel" 2>"$OUT/copy.log" ||
		die_log build "$OUT/copy.log" "cannot copy the kernel"
}

keep=
if [ -f "$TREE/.git/diskseq-stamp" ] && ! has_modules; then
	keep=1
fi
if [ -n "$keep" ] && [ -f "$kept/$key" ]; then
	touch "$kept/$key"
	put "$kept/$key"
	exit 0
fi

need_compiler
need flex flex bison bison bc bc ccache ccache \
	/usr/include/libelf.h libelf-dev
room 1000 "$CACHE"

set -- -j"$(nproc)" "${arch_image% *}"
if has_modules; then
	need /usr/sbin/depmod kmod
	set -- "$@" modules
fi
progress "kernel $BASE $ARCH${DEBUG:+ $DEBUG}" "$OUT/build.log" kbuild "$@" || {
	grep -m 3 -E '(error|Error):? ' "$OUT/build.log" | sed 's/^/    /' >&2
	die_log build "$OUT/build.log" "the kernel does not build"
}
put "$BUILD/${arch_image#* }"
if has_modules; then
	kbuild INSTALL_MOD_PATH="$OUT/modules" DEPMOD=/usr/sbin/depmod modules_install \
		>"$OUT/modules.log" 2>&1 || die_log build "$OUT/modules.log" "the modules do not install"
	# they lead to where it was built
	find "$OUT/modules" -type l -delete
fi
[ -n "$keep" ] || exit 0

# The sixteen that were used last, some megabytes each.
mkdir -p "$kept"
cp "$OUT/kernel" "$kept/.new"
mv "$kept/.new" "$kept/$key"
find "$kept" -type f -printf '%T@ %p\n' | sort -rn | tail -n +17 | cut -d' ' -f2- | xargs -r rm -f
