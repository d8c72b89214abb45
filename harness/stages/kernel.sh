#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Makes the kernel of BASE, VARIANT, ARCH and DEBUG and what the guest is to run, and
# puts them into $OUT; with KERNEL= that one in place of the first. The cache is locked
# meanwhile, not while a guest runs.

. "$(dirname "$0")/../lib/lib.sh"

: "${BASE:?}" "${OUT:?}"

. "$HARNESS/lib/build-dir.sh"

# A mutant starts from what was built of the series.
case $VARIANT in
mutant-*)
	[ -f "$TOP/tests/mutants/$BASE/${VARIANT#mutant-}.patch" ] ||
		die usage "there is no mutant ${VARIANT#mutant-} for $BASE"
	if [ ! -d "$CACHE/tree/$BASE-series/build" ]; then
		mkdir -p "$OUT/series"
		env OUT="$OUT/series" VARIANT=series "$HARNESS/stages/kernel.sh"
	fi ;;
esac

lock 9 "tree-$BASE"
[ -n "${WORKTREE:-}" ] || stage patch "$HARNESS/stages/tree.sh"
"$HARNESS/stages/list.sh" "${TEST:-*}" >"$OUT/tests"
if [ -n "${KERNEL:-}" ]; then
	stage kernel "$HARNESS/stages/stock.sh"
else
	stage configure "$HARNESS/stages/config.sh"
	stage build "$HARNESS/stages/build.sh"
fi
[ -z "${SIZES:-}" ] || stage sizes "$HARNESS/stages/sizes.sh"
case $GUEST in
kselftest)
	stage selftests "$HARNESS/stages/selftests.sh"
	stage initramfs "$HARNESS/stages/initramfs.sh" ;;
userland)
	stage image "$HARNESS/stages/image.sh"
	stage payload "$HARNESS/stages/payload.sh" ;;
*)
	stage program "$HARNESS/stages/program.sh"
	stage initramfs "$HARNESS/stages/initramfs.sh" ;;
esac
