# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Images whose every file system says which image it is. Sourced after lib.sh.

# Type ids of the Discoverable Partitions Specification.
esp=c12a7328-f81f-11d2-ba4b-00a0c93ec93b
root=4f68bce3-e8cd-4db1-96e7-fbcaf984b709
home=933ac7e1-2eb4-4f13-b844-0e14e2aef915

# ext4_image FILE MARK [MB]
ext4_image() {
	mkdir "$1.tree" &&
		echo "$2" >"$1.tree/marker" &&
		mke2fs -q -t ext4 -O ^has_journal -L "$2" -d "$1.tree" "$1" "${3:-4}M" &&
		rm -r "$1.tree"
}

squashfs_image() {
	mkdir "$1.tree" &&
		(cd "$1.tree" && mkdir -p proc sys dev run tmp var etc home efi usr/bin usr/lib) &&
		echo "$2" >"$1.tree/marker" &&
		echo "ID=$2" >"$1.tree/usr/lib/os-release" &&
		cp ../guest/diskseq "$1.tree/usr/bin/" &&
		mksquashfs "$1.tree" "$1" -all-root -quiet -no-progress -no-xattrs -noI -noD -noF >/dev/null &&
		rm -r "$1.tree"
}

vfat_image() {
	echo "$2" >"$1.marker" &&
		mkfs.vfat -n "$2" -C "$1" 2048 >/dev/null &&
		mcopy -i "$1" "$1.marker" ::/marker &&
		rm "$1.marker"
}

# gpt_image FILE MARK: ESP (vfat), root (squashfs) and home (ext4)
gpt_image() {
	vfat_image "$1.esp" "$2" && squashfs_image "$1.root" "$2" && ext4_image "$1.home" "$2" &&
		truncate -s 14M "$1" &&
		sfdisk -q "$1" <<-END &&
			label: gpt
			start=2048, size=4096, type=$esp
			start=6144, size=8192, type=$root
			start=14336, size=8192, type=$home
		END
		dd if="$1.esp" of="$1" bs=1M seek=1 conv=notrunc status=none &&
		dd if="$1.root" of="$1" bs=1M seek=3 conv=notrunc status=none &&
		dd if="$1.home" of="$1" bs=1M seek=7 conv=notrunc status=none &&
		rm "$1.esp" "$1.root" "$1.home"
}

# image KIND FILE MARK, or the test cannot go on
image() {
	"$1_image" "$2" "$3" >"$W/said" 2>&1 || {
		not_ok "an image can be made: $1"
		finish
		exit 1
	}
}
