#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Packs init and the installed selftests, or the program that stands in for them,
# and the kernel's modules if there are any, into $OUT/initramfs.cpio. The kernel's
# own gen_init_cpio writes it from a list, so /dev/console needs no root.
# A guest for a shell, or for DEBUG=gcov, has busybox; harness/tables/programs names what
# else of Debian's there is.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/arch.sh"

: "${TREE:?}" "${BUILD:?}" "${OUT:?}"

case $GUEST in
kselftest) installed=$BUILD/selftests ;;
*) installed=$OUT/program ;;
esac

# shellcheck disable=SC2086 # words
$arch_cc -static -O2 -Wall -Wextra -o "$OUT/init" "$HARNESS"/guest/init*.c >"$OUT/init.log" 2>&1 ||
	die_log build "$OUT/init.log" "harness/guest/init*.c do not build"

# Its package would replace the busybox of the machine, so it is only unpacked.
busybox() {
	busybox=$CACHE/busybox
	[ ! -x "$busybox" ] || return 0
	lock_apt
	make_scratch
	say "fetching Debian's busybox-static"
	(cd "$scratch" && apt-get download busybox-static &&
		dpkg-deb -x busybox-static_*.deb .) >"$OUT/busybox.log" 2>&1 </dev/null ||
		die_log tool "$OUT/busybox.log" "apt-get cannot download busybox-static"
	mv "$scratch/bin/busybox" "$busybox"
}

# "PATH PACKAGE" of those programs that this kernel is of use to: this machine's
# own, which no other architecture runs. A kernel that was not built here may be of
# use to all.
wanted_programs() {
	[ "$ARCH" = x86_64 ] || return 0
	if [ -n "${KERNEL:-}" ]; then
		awk '!/^#/ && NF { print $1, $2 }' "$HARNESS/tables/programs"
		return
	fi
	awk 'NR == FNR { set[$0] = 1; next }
		!/^#/ && NF && ($3 "=y") in set { print $1, $2 }' \
		"$BUILD/.config" "$HARNESS/tables/programs"
}

# shellcheck disable=SC2046 # words
set -- $(wanted_programs)
[ $# = 0 ] || need "$@"

# Programs and libraries where they are on this machine: their folders first.
programs() {
	wanted_programs | cut -d' ' -f1 >"$OUT/programs"
	[ -s "$OUT/programs" ] || return 0
	if ! xargs ldd <"$OUT/programs" >"$OUT/programs.ldd" 2>&1 ||
	   grep -q 'not found' "$OUT/programs.ldd"; then
		die_log build "$OUT/programs.ldd" "ldd cannot list the libraries of the programs"
	fi
	awk '$2 == "=>" { print $3 } /^\t\// { print $1 }' "$OUT/programs.ldd" |
		sort -u - "$OUT/programs" |
		awk '{
			for (i = 2; i <= length($0); i++)
				if (substr($0, i, 1) == "/" && !seen[dir = substr($0, 1, i - 1)]++)
					print "dir " dir " 0755 0 0"
			print "file " $0 " " $0 " 0755 0 0"
		}'
}

{
	for dir in /dev /proc /sys /tmp /run /bin /sbin /kselftest; do
		echo "dir $dir 0755 0 0"
	done
	echo "nod /dev/console 0600 0 0 c 5 1"
	echo "nod /dev/null 0666 0 0 c 1 3"
	echo "file /init $OUT/init 0755 0 0"
	(cd "$installed" && find . -mindepth 1 -type d -printf 'dir /kselftest/%P 0755 0 0\n' &&
		find . -type f -printf "file /kselftest/%P $installed/%P 0%m 0 0\n")
	programs
	if [ -d "$OUT/modules" ]; then
		(cd "$OUT/modules" && find lib -type d -printf 'dir /%p 0755 0 0\n' &&
			find lib -type f -printf "file /%p $OUT/modules/%p 0644 0 0\n")
	fi
	case ${SHELL_ONLY:-},${DEBUG:-}, in
	1* | *,gcov,*)
		busybox >&2
		echo "file /send-counters $HARNESS/guest/send-counters 0755 0 0"
		echo "file /bin/busybox $CACHE/busybox 0755 0 0"
		"$CACHE/busybox" --list | sed -e '/^busybox$/d' -e 's|.*|slink /bin/& busybox 0777 0 0|' ;;
	esac
} >"$OUT/initramfs.list"
pack=$BUILD/usr/gen_init_cpio
if [ ! -x "$pack" ]; then
	pack=$OUT/gen_init_cpio
	gcc -O2 -o "$pack" "$TREE/usr/gen_init_cpio.c" >"$OUT/initramfs.log" 2>&1 ||
		die_log build "$OUT/initramfs.log" "usr/gen_init_cpio.c does not build"
fi
"$pack" "$OUT/initramfs.list" >"$OUT/initramfs.cpio" 2>"$OUT/initramfs.log" ||
	die_log build "$OUT/initramfs.log" "gen_init_cpio failed"
