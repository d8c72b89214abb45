#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Compiles each object that the series changes with allmodconfig, for the
# architectures of harness/tables/cross-arches. A case is an object on one of them; one that
# the architecture does not have, or that does not build there without the series either
# (the floppy), is skipped. A warning in a file that the series touches is a failure.
# Usage: harness/commands/cross.sh [NAME=VALUE...], with BASE= and CROSS=ARCH,...

. "$(dirname "$0")/../lib/args.sh"
. "$HARNESS/lib/repo.sh"
. "$HARNESS/lib/topics.sh"

arches=$(grep -v '^#' "$HARNESS/tables/cross-arches" | cut -f1 | xargs)
for arch in $(echo "${CROSS:-}" | tr , ' '); do
	case " $arches " in
	*" $arch "*) ;;
	*) die usage "unknown CROSS '$arch' (there are: $arches)" ;;
	esac
done
[ -z "${BASE:-}" ] || known_base "$BASE"
only_variables cross
if [ -z "${OUT:-}" ]; then
	results_dir cross
	OUT=$results_dir
fi
mkdir -p "$OUT"
export OUT

"$HARNESS/stages/fetch.sh"
BASE=$(cat "$OUT/base")
export BASE
. "$HARNESS/lib/kbuild.sh"
TREE=$CACHE/tree/$BASE-series
export TREE
make_scratch
lock 9 "tree-$BASE"
"$HARNESS/stages/tree.sh"
eval "set -- $(series "$BASE" | words)"
touched_sources "$@" >"$scratch/paths"
objects=$(touched_objects | xargs)
# They want what is no cross compiler, or much time, and change no line of ours.
printf '# CONFIG_%s is not set\n' GCC_PLUGINS DEBUG_INFO MODULE_SIG WERROR >"$scratch/off"

# cross ARGUMENT...: the kernel's make in $BUILD, for $arch
cross() {
	kmake O="$BUILD" ARCH="$arch" CROSS_COMPILE="$prefix" CC="ccache ${prefix}gcc" \
		HOSTCC='ccache gcc' LOCALVERSION= ${cflags:+"KCFLAGS=$cflags"} "$@"
}

# configure: an allmodconfig for $arch in $BUILD
configure() {
	mkdir -p "$BUILD"
	cross KCONFIG_ALLCONFIG="$scratch/off" allmodconfig && cross -j"$(nproc)" prepare
}

# unpatched OBJECT: is it an object that does not build without the series either?
unpatched() {
	patched=$TREE
	TREE=$CACHE/tree/$BASE-base
	BUILD=$TREE/build-cross-$arch
	{
		rm -f "$BUILD/$1"
		VARIANT=base "$HARNESS/stages/tree.sh" && configure && ! cross "$1"
	} >>"$OUT/$arch.unpatched.log" 2>&1
	failed_too=$?
	TREE=$patched
	BUILD=$TREE/build-cross-$arch
	return "$failed_too"
}

passed=0 failed=0 skipped=0
verdict() {
	say "  $1: $BASE $arch $2"
}

need flex flex bison bison bc bc ccache ccache /usr/include/libelf.h libelf-dev
while read -r arch prefix cflags <&6; do
	case ",${CROSS:-$arch}," in
	*",$arch,"*) ;;
	*) continue ;;
	esac
	need "${prefix}gcc" "gcc-${prefix%-}"
	room 500 "$CACHE"
	BUILD=$TREE/build-cross-$arch
	log=$OUT/$arch.log
	configure >"$log" 2>&1 || die_log build "$log" "$BASE cannot be prepared for $arch"
	for object in $objects; do
		rm -f "$BUILD/$object"
	done
	# shellcheck disable=SC2086 # words
	cross -k -j"$(nproc)" $objects >>"$log" 2>&1 || :
	warning=$(warned "$log" | head -n 1)
	if [ -n "$warning" ]; then
		verdict failed "$warning"
		failed=$((failed + 1))
	fi
	for object in $objects; do
		if [ -s "$BUILD/$object" ]; then
			passed=$((passed + 1))
		elif grep -q "No rule to make target '.*${object##*/}'" "$log"; then
			verdict skipped "$object: $arch has none"
			skipped=$((skipped + 1))
		elif unpatched "$object"; then
			verdict skipped "$object: does not build without the series either"
			skipped=$((skipped + 1))
		else
			verdict failed "$object: does not build (log: $log)"
			failed=$((failed + 1))
		fi
	done
done 6<<END
$(grep -v '^#' "$HARNESS/tables/cross-arches")
END
say "$BASE cross: $passed cases passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] || die failed "$failed of $((passed + failed + skipped)) objects failed"
[ "$passed" != 0 ] || die nothing "no object was built"
