#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Puts the objects that the series changes, as $BUILD has them, into
# $OUT/objects, and into $OUT/structs the size of what it makes larger.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/kbuild.sh"

: "${BASE:?}" "${TREE:?}" "${BUILD:?}" "${OUT:?}"

mkdir -p "$OUT/objects"
touched_objects >"$OUT/touched.objects"
objects=
while read -r path; do
	[ ! -f "$BUILD/$path" ] || objects="$objects $path"
done <"$OUT/touched.objects"

# What was built last need not be what booted: see build.sh.
# shellcheck disable=SC2086 # a list
kbuild -j"$(nproc)" $objects >"$OUT/sizes.log" 2>&1 ||
	die_log build "$OUT/sizes.log" "the objects do not build"
for path in $objects; do
	cp "$BUILD/$path" "$OUT/objects/$(echo "$path" | tr / _)"
done

# There is no debug information to read, so the compiler is asked, with the options
# that kbuild gives it.
make_scratch
cat >"$scratch/structs.c" <<'END'
#include <linux/genhd.h>
char gendisk[sizeof(struct gendisk)];
END
compile=$(sed -n -e 's/^cmd_block\/genhd\.o := //p' "$BUILD/block/.genhd.o.cmd" |
	sed -e 's/ -Wp,-MMD,[^ ]*//' -e 's/ -c -o .*//')
if ! (cd "$BUILD" && eval "$compile -c -o \"\$scratch/structs.o\" \"\$scratch/structs.c\"") \
	>"$OUT/sizes.log" 2>&1; then
	die_log build "$OUT/sizes.log" "the sizes of structures cannot be compiled"
fi
nm -S "$scratch/structs.o" | while read -r _ size _ name; do
	echo "$name $((0x$size))"
done >"$OUT/structs"
