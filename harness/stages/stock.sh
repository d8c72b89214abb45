#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Puts the kernel of KERNEL= (and MODULES=) into $OUT as it is, its version into
# $OUT/release, and into $OUT/modules those of harness/tables/modules that it has as
# modules, with what they depend on. A Debian suite's kernel is kept in the cache, and
# replaced by a newer one after a day.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/debian.sh"
. "$HARNESS/lib/stock.sh"

: "${KERNEL:?}" "${OUT:?}"

# The packages that linux-image-amd64 of this suite comes down to
get_packages() {
	packages=$(private_apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
		--no-breaks --no-replaces --no-enhances linux-image-amd64 |
		grep -xE 'linux-(image|binary|modules|base)-[0-9].*') || return
	# shellcheck disable=SC2086 # words
	download $packages
}

# Leaves $kernel, and its modules below $root, in the cache.
from_debian() {
	suite=${KERNEL#debian:}
	lock 8 "kernel-$suite"
	kept=$CACHE/kernel/$suite
	if [ -z "$(find "$kept/package" -mmin -1440 2>/dev/null)" ]; then
		say "fetching the kernel of Debian $suite"
		if on_mirrors "$suite" get_packages; then
			keep
		elif [ -f "$kept/package" ]; then
			say "note: no newer kernel can be fetched: the one of $(date -r "$kept/package" +%F) it is"
		else
			die kernel "KERNEL=$KERNEL: no Debian mirror of this machine has linux-image-amd64 in $suite"
		fi
	fi
	kernel=$kept/vmlinuz
	root=$kept
	cp "$kept/package" "$OUT/package"
}

keep() {
	room 1000 "$CACHE"
	for deb in "$scratch"/deb/*.deb; do
		dpkg-deb -x "$deb" "$scratch/root" >"$scratch/log" 2>&1 ||
			die_log kernel "$scratch/log" "cannot unpack ${deb##*/}"
	done
	mkdir -p "$scratch/new/lib/modules"
	for file in "$scratch"/root/boot/vmlinuz-* "$scratch"/root/usr/lib/modules/*/vmlinuz; do
		[ ! -f "$file" ] || mv "$file" "$scratch/new/vmlinuz"
	done
	release=$(image_release "$scratch/new/vmlinuz")
	for dir in "$scratch/root/lib/modules/$release" "$scratch/root/usr/lib/modules/$release"; do
		[ ! -d "$dir/kernel" ] || mv "$dir" "$scratch/new/lib/modules/"
	done
	[ -d "$scratch/new/lib/modules/${release:-none}" ] ||
		die kernel "KERNEL=$KERNEL: the packages hold no kernel with its modules: $(cd "$scratch/deb" && echo *)"
	depmod -b "$scratch/new" "$release"
	# a package's name has the version in it
	(cd "$scratch/deb" && echo *) | tr ' ' '\n' | sed -n '/^linux-base-/d; s/_amd64\.deb$//; s/_/ /p' | head -n 1 >"$scratch/new/package"
	rm -rf "$kept"
	mkdir -p "$CACHE/kernel"
	mv "$scratch/new" "$kept"
}

# needed: the files of the modules that the table names, with what they depend on, in the
# order in which they have to be loaded
needed() {
	sed '/^#/d' "$HARNESS/tables/modules" | while read -r name _; do
		modprobe -C /dev/null -d "$root" -S "$release" --show-depends "$name" 2>/dev/null || :
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# from_folder: leaves that of MODULES= below $root, where depmod can write
from_folder() {
	make_scratch
	root=$scratch/root
	mkdir -p "$root/lib/modules/$release"
	cp -a "$MODULES/." "$root/lib/modules/$release/" 2>"$OUT/copy.log" ||
		die_log disk "$OUT/copy.log" "cannot copy the modules"
	depmod -b "$root" "$release"
}

take_modules() {
	mkdir -p "$OUT/modules/lib/modules/$release"
	needed | while read -r file; do
		to=$OUT/modules/${file#"$root/"}
		mkdir -p "$(dirname "$to")"
		case $file in
		*.xz)	xz -dc "$file" >"${to%.xz}" ;;
		*.zst)	zstd -qdc "$file" >"${to%.zst}" ;;
		*)	cp "$file" "$to" ;;
		esac
	done
	for file in builtin builtin.modinfo order; do
		cp "$root/lib/modules/$release/modules.$file" "$OUT/modules/lib/modules/$release/"
	done
	depmod -b "$OUT/modules" "$release"
	# what init loads before the tests
	sed '/^#/d' "$HARNESS/tables/modules" | cut -f1 >"$OUT/modules/lib/modules/diskseq"
}

rm -rf "$OUT/modules" "$OUT/package"
stock_kernel
need /usr/sbin/depmod kmod xz xz-utils zstd zstd
PATH=$PATH:/usr/sbin:/sbin
root=
case $KERNEL in
debian:*) from_debian ;;
*)	kernel=$KERNEL
	[ -z "${MODULES:-}" ] || from_folder ;;
esac
release=$(image_release "$kernel")
cp "$kernel" "$OUT/kernel" 2>"$OUT/copy.log" || die_log disk "$OUT/copy.log" "cannot copy the kernel"
echo "$release" >"$OUT/release"
[ -z "$root" ] || take_modules
say "kernel: $release$([ ! -f "$OUT/package" ] || sed 's/\(.*\) \(.*\)/, of Debian'"'"'s \1 \2/' "$OUT/package")"
