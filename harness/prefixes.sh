#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Every prefix of the series by itself: it builds without a warning in a file
# that the series touches, with the options on which the series depends on and
# off, and boots. From the patch on that completes the feature the tests of it
# pass, and at the end all do.
# Usage: BASE=... [FROM=N] harness/prefixes.sh (make prefixes); FROM= starts with
# the prefix of that many patches.

. "$(dirname "$0")/lib.sh"
. "$HARNESS/base.sh"
. "$HARNESS/kbuild.sh"
. "$HARNESS/repo.sh"

BASE=${BASE:-$(bases | cut -d' ' -f1)}
known_base "$BASE"
export BASE

# The patch with which the feature is complete, and the tests of it.
feature=6
feature_tests='diskseq_read_test*,diskseq_alloc_test,diskseq_loop_test,diskseq_race_test'

PREFIXES=$TOP/out/$(date +%Y%m%d-%H%M%S)-$$-prefixes
mkdir -p "$PREFIXES" 2>/dev/null || die disk "cannot make $PREFIXES"
ln -sfn "${PREFIXES##*/}" "$TOP/out/last"
make_scratch

set -- "$PATCHES/$BASE"/0*.patch
total=$#
from=${FROM:-1}
{ [ "$from" -ge 1 ] && [ "$from" -le "$total" ]; } 2>/dev/null ||
	die usage "FROM=$from: the series has patches 1 to $total"
touched_sources "$@" >"$scratch/paths"

# The series gives the initramfs: its tests run on every prefix's kernel.
OUT=$PREFIXES/series VARIANT=series "$HARNESS/run.sh" >"$PREFIXES/series.log" 2>&1 || {
	tail -n 20 "$PREFIXES/series.log"
	die failed "the whole series does not pass its tests"
}

# compile NAME SCRIPTS_CONFIG_ARGUMENTS -- TARGETS: with options set otherwise
compile() {
	name=$1
	shift
	BUILD=$TREE/build-$name
	mkdir -p "$BUILD"
	if [ ! -f "$BUILD/.config" ]; then
		cp "$TREE/build/.config" "$BUILD/.config"
		changes=
		while [ "$1" != -- ]; do
			changes="$changes $1"
			shift
		done
		# shellcheck disable=SC2086 # words
		"$TREE/scripts/config" --file "$BUILD/.config" $changes
		kbuild olddefconfig >"$OUT/$name.log" 2>&1 ||
			die_log config "$OUT/$name.log" "kconfig failed with $name"
	fi
	while [ "$1" != -- ]; do
		shift
	done
	shift
	kbuild -j"$(nproc)" "$@" >"$OUT/$name.log" 2>&1 ||
		die_log build "$OUT/$name.log" "prefix $n does not build with $name"
	[ -z "$(warned "$OUT/$name.log")" ] ||
		die build "prefix $n warns with $name: $(warned "$OUT/$name.log" | head -n 1)"
}

rm -f "$CACHE/tree/$BASE-prefix"/build-*/.config
n=$((from - 1))
while [ "$n" -lt "$total" ]; do
	n=$((n + 1))
	OUT=$PREFIXES/$n
	VARIANT=prefix-$n
	TREE=$CACHE/tree/$BASE-prefix
	BUILD=$TREE/build
	mkdir -p "$OUT"
	: >"$OUT/times"
	unset TEST
	[ "$n" -eq "$total" ] || TEST=$feature_tests
	export OUT VARIANT TREE BUILD TEST
	(
		lock 9 "tree-$BASE"
		"$HARNESS/tree.sh" && "$HARNESS/config.sh" && "$HARNESS/build.sh"
	) >"$OUT/run.log" 2>&1 || {
		tail -n 20 "$OUT/run.log"
		die build "prefix $n does not build (log: $OUT/run.log)"
	}
	[ ! -f "$OUT/build.log" ] || [ -z "$(warned "$OUT/build.log")" ] ||
		die build "prefix $n warns: $(warned "$OUT/build.log" | head -n 1)"

	set -- block/ fs/block_dev.o drivers/block/ drivers/md/
	compile loop-off -d BLK_DEV_LOOP -- "$@"
	compile loop-module -e MODULES -m BLK_DEV_LOOP -- "$@"
	compile compat-off -d IA32_EMULATION -- "$@"
	compile sysfs-off -e EXPERT -d CONFIGFS_FS -d SYSFS -- "$@"
	[ "$n" -ne "$total" ] || compile loop-module -- vmlinux modules

	cp "$PREFIXES/series/initramfs.cpio" "$OUT/"
	status=0
	{ "$HARNESS/boot.sh" && "$HARNESS/results.sh"; } >>"$OUT/run.log" 2>&1 || status=$?
	if [ "$n" -lt "$feature" ] && grep -qsx complete "$OUT/results"; then
		case $status in
		"$(status failed)" | "$(status nothing)") status=0 ;;
		esac
		passes="boots and runs the tests"
	else
		passes="boots, $(grep -c '^pass	' "$OUT/results" || :) cases pass"
	fi
	[ "$status" = 0 ] || {
		tail -n 30 "$OUT/run.log"
		die failed "prefix $n does not pass (log: $OUT/run.log)"
	}
	rm -f "$OUT/initramfs.cpio" "$OUT/kernel"
	say "ok      $BASE: prefix $n of $total builds with each option, $passes"
done
say "$((total - from + 1)) passed, 0 failed"
