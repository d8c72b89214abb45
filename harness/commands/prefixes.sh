#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Each topic of the series by itself, on just what it needs: with each patch more the
# kernel builds without a warning in a file that the series touches, with the options on
# which the series depends on and off, and boots; with the last one the tests that the
# topic's cover letter names pass.
# Usage: BASE=... [TOPIC=NAME,...] harness/commands/prefixes.sh (make prefixes)

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"
. "$HARNESS/lib/kbuild.sh"
. "$HARNESS/lib/repo.sh"

BASE=${BASE:-$(bases | cut -d' ' -f1)}
known_base "$BASE"
export BASE
wanted=${TOPIC:-$(topics "$BASE" | grep -vxF selftests | tr '\n' ,)}
known_topics "$BASE" "$wanted"
only_variables prefixes
unset TOPIC OUT

results_dir prefixes
PREFIXES=$results_dir
make_scratch

eval "set -- $(series "$BASE" | words)"
touched_sources "$@" >"$scratch/paths"
# Whole folders, but of fs/, which is large, only the objects that the series changes
folders=$(touched_objects | sed -E 's:^(block|drivers/[^/]*)/.*:\1/:' | sort -u | xargs)

# The series gives the initramfs: its tests run on every kernel.
OUT=$PREFIXES/series VARIANT=series "$HARNESS/commands/run.sh" >"$PREFIXES/series.log" 2>&1 || {
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
		die_log build "$OUT/$name.log" "$what does not build with $name"
	[ -z "$(warned "$OUT/$name.log")" ] ||
		die build "$what warns with $name: $(warned "$OUT/$name.log" | head -n 1)"
}

# prefix TOPIC N TOTAL: the first N patches of TOPIC
prefix() {
	what="$1 $2/$3"
	OUT=$PREFIXES/$1-$2
	VARIANT=topic-$1/$2
	TREE=$CACHE/tree/$BASE-topic
	BUILD=$TREE/build
	TEST=$(topic_tests "$BASE" "$1")
	mkdir -p "$OUT"
	: >"$OUT/times"
	export OUT VARIANT TREE BUILD TEST
	(
		lock 9 "tree-$BASE"
		"$HARNESS/stages/tree.sh" && "$HARNESS/stages/list.sh" "$TEST" >"$OUT/tests" &&
			"$HARNESS/stages/config.sh" && "$HARNESS/stages/build.sh"
	) >"$OUT/run.log" 2>&1 || {
		tail -n 20 "$OUT/run.log"
		die build "$what does not build (log: $OUT/run.log)"
	}
	[ ! -f "$OUT/build.log" ] || [ -z "$(warned "$OUT/build.log")" ] ||
		die build "$what warns: $(warned "$OUT/build.log" | head -n 1)"

	# shellcheck disable=SC2086 # words
	{
		compile loop-off -d BLK_DEV_LOOP -- $folders
		compile loop-module -e MODULES -m BLK_DEV_LOOP -- $folders
		compile compat-off -d IA32_EMULATION -- $folders
		compile sysfs-off -e EXPERT -d CONFIGFS_FS -d SYSFS -- $folders
	}
	[ "${what#* }" != "$total/$total" ] || compile loop-module -- vmlinux modules

	cp "$PREFIXES/series/initramfs.cpio" "$OUT/"
	status=0
	{ "$HARNESS/stages/boot.sh" && "$HARNESS/stages/results.sh"; } >>"$OUT/run.log" 2>&1 || status=$?
}

passed=0
rm -f "$CACHE/tree/$BASE-topic"/build-*/.config
for topic in $(echo "$wanted" | tr , ' '); do
	total=$(series "$BASE" "$topic" | wc -l)
	n=0
	while [ "$n" -lt "$total" ]; do
		n=$((n + 1))
		prefix "$topic" "$n" "$total"
		if [ "$n" -lt "$total" ] && grep -qsx complete "$OUT/results"; then
			case $status in
			"$(status failed)" | "$(status nothing)") status=0 ;;
			esac
			passes="boots and runs the tests"
		else
			passes="boots, $(grep -c '^pass	' "$OUT/results" || :) cases pass"
		fi
		[ "$status" = 0 ] || {
			tail -n 30 "$OUT/run.log"
			die failed "$what does not pass (log: $OUT/run.log)"
		}
		rm -f "$OUT/initramfs.cpio" "$OUT/kernel"
		say "ok      $BASE: $what builds with each option, $passes"
		passed=$((passed + 1))
	done
done
say "$passed passed, 0 failed"
