#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Builds and installs the selftests of $TREE the kernel's own way, statically
# linked, into $BUILD/selftests.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/kbuild.sh"

: "${TREE:?}" "${BUILD:?}" "${OUT:?}"

installed=$BUILD/selftests
list=$installed/kselftest-list.txt

# They depend on the source, on what patches make of tools and headers, and on
# nothing else of the kernel.
key=$({
	cut -d' ' -f1 "$TREE/.git/diskseq-stamp" 2>/dev/null || :
	git -C "$TREE" ls-tree -r HEAD tools include 2>/dev/null || :
	cat "$HARNESS/stages/selftests.sh" "$HARNESS/lib/kbuild.sh" "$HARNESS/lib/arch.sh"
	"${arch_cross}gcc" --version
} | sha256sum)
if [ -f "$TREE/.git/diskseq-stamp" ] && [ -f "$list" ] &&
   [ "$(cat "$BUILD/diskseq.installed" 2>/dev/null)" = "$key" ]; then
	exit 0
fi

need_compiler
need rsync rsync
rm -rf "$BUILD/diskseq.installed" "$installed"

# -static goes with the compiler's name: the selftests' makefile overrides
# LDFLAGS when it builds out of tree.
set -- -j"$(nproc)" -C tools/testing/selftests TARGETS=block FORCE_TARGETS=1 O="$BUILD" \
	ARCH="$arch_kernel" CROSS_COMPILE="$arch_cross" CC="$arch_cc -static" KSFT_INSTALL_PATH="$installed" install
echo "make -C $TREE $*" >>"$OUT/commands"
progress selftests "$OUT/selftests.log" kmake "$@" ||
	die_log build "$OUT/selftests.log" "the selftests do not build"
[ -s "$list" ] || die build "the selftests' install step listed no test (log: $OUT/selftests.log)"
# One that the machine's compiler cannot build the makefile leaves out.
sed 's/^[^:]*://' "$list" >"$OUT/installed"
missing=$(grep -v -x -F -f "$OUT/installed" "$OUT/tests" || :)
[ -z "$missing" ] ||
	die build "the selftests' install step left out $(echo "$missing" | xargs) (log: $OUT/selftests.log)"
echo "$key" >"$BUILD/diskseq.installed"
