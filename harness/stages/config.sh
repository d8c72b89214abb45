#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Configures $TREE in $BUILD: allnoconfig, the fragments of harness/config, the
# selftests' own config, on x86_64 that of the Debian guest, what is ARCH's own, what
# is BASE's own, and the fragments that DEBUG names, with what is BASE's own of them;
# then checks that every symbol got its value.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/kbuild.sh"

: "${TREE:?}" "${BUILD:?}"

set -- "$HARNESS/config/guest.config" "$HARNESS/config/block.config"
selftest_config=$TREE/tools/testing/selftests/block/config
[ ! -f "$selftest_config" ] || set -- "$@" "$selftest_config"
[ "$ARCH" != x86_64 ] || set -- "$@" "$HARNESS/config/userland.config"
set -- "$@" "$HARNESS/config/arch-$ARCH.config"
[ ! -f "$HARNESS/config/$BASE.config" ] || set -- "$@" "$HARNESS/config/$BASE.config"
for name in $(echo "${DEBUG:-}" | tr , ' '); do
	set -- "$@" "$HARNESS/config/debug-$name.config"
	[ ! -f "$HARNESS/config/$BASE-$name.config" ] || set -- "$@" "$HARNESS/config/$BASE-$name.config"
done
[ -z "${CONFIG:-}" ] || set -- "$@" "$CONFIG"

make_scratch
{
	# The source, and what patches make of its Kconfig files.
	echo "# $(cut -d' ' -f1 "$TREE/.git/diskseq-stamp" 2>/dev/null)"
	git -C "$TREE" ls-tree -r HEAD 2>/dev/null | sed -n 's/.*Kconfig.*/# &/p'
	cat "$@"
} >"$scratch/wanted"
wanted=$BUILD/diskseq.config
if [ -f "$TREE/.git/diskseq-stamp" ] && [ -f "$BUILD/.config" ] &&
   cmp -s "$scratch/wanted" "$wanted"; then
	exit 0
fi

need_compiler
need flex flex bison bison bc bc ccache ccache \
	/usr/include/libelf.h libelf-dev
room 1200 "$CACHE"
mkdir -p "$BUILD"
rm -f "$wanted"
kbuild KCONFIG_ALLCONFIG="$scratch/wanted" allnoconfig >"$OUT/config.log" 2>&1 ||
	die_log config "$OUT/config.log" "kconfig failed"

# The last fragment that speaks of a symbol is the one that counts.
awk '
	/^CONFIG_/ { split($0, a, "="); want[a[1]] = $0 }
	/^# CONFIG_.* is not set/ { want[$2] = $0 }
	END { for (s in want) print want[s] }
' "$@" | sort >"$scratch/lines"
missing=
while read -r line; do
	case $line in
	\#*)	symbol=${line#\# } symbol=${symbol%% *}
		! grep -q "^$symbol=" "$BUILD/.config" ;;
	*=n)	symbol=${line%%=*}
		! grep -q "^$symbol=" "$BUILD/.config" ;;
	*)	symbol=${line%%=*}
		grep -qxF "$line" "$BUILD/.config" ;;
	esac || missing="$missing $symbol"
done <"$scratch/lines"
[ -z "$missing" ] ||
	die config "config symbols that did not take:$missing (a dependency is off, or $BASE has no such symbol)"
mv "$scratch/wanted" "$wanted"
