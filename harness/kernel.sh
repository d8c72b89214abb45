#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Makes the kernel of BASE, VARIANT, ARCH and DEBUG and what the guest is to run, and
# puts them into $OUT. The cache is locked meanwhile, not while a guest runs.

. "$(dirname "$0")/lib.sh"

: "${BASE:?}" "${OUT:?}"

. "$HARNESS/build-dir.sh"

# A mutant starts from what was built of the series.
case $VARIANT in
mutant-*)
	[ -f "$TOP/tests/mutants/$BASE/${VARIANT#mutant-}.patch" ] ||
		die usage "there is no mutant ${VARIANT#mutant-} for $BASE"
	if [ ! -d "$CACHE/tree/$BASE-series/build" ]; then
		mkdir -p "$OUT/series"
		env OUT="$OUT/series" VARIANT=series "$HARNESS/kernel.sh"
	fi ;;
esac

lock 9 "tree-$BASE"
[ -n "${WORKTREE:-}" ] || stage patch "$HARNESS/tree.sh"
"$HARNESS/list.sh" "${TEST:-*}" >"$OUT/tests"
stage configure "$HARNESS/config.sh"
stage build "$HARNESS/build.sh"
[ -z "${SIZES:-}" ] || stage sizes "$HARNESS/sizes.sh"
case $GUEST in
kselftest)
	stage selftests "$HARNESS/selftests.sh"
	stage initramfs "$HARNESS/initramfs.sh" ;;
userland)
	stage image "$HARNESS/image.sh"
	stage payload "$HARNESS/payload.sh" ;;
*)
	stage program "$HARNESS/program.sh"
	stage initramfs "$HARNESS/initramfs.sh" ;;
esac
