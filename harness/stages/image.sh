#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Makes the image of Debian's $SUITE that "make userland" boots, from the recipe in
# userland/ (packages, masked, overlay/), and links it as $OUT/root.ext4.
# The cache holds it by the hash of the recipe. No root is needed and nothing
# is mounted: mmdebstrap makes a tar of it, and mke2fs fills a file system from
# what fakeroot believes to be root's files. apt verifies and gets the packages
# as this machine's own apt does, from the same mirrors.

. "$(dirname "$0")/../lib/lib.sh"

: "${OUT:?}" "${SUITE:?}"

images=$CACHE/image
# What is never released changes all the time: another image each week.
edition=
[ "$SUITE" != sid ] || edition=$(date +%G-W%V)

key=$({
	echo "$edition"
	cat "$HARNESS/stages/image.sh" "$USERLAND/packages" "$USERLAND/masked"
	cd "$USERLAND/overlay" || exit
	find . -type f | sort | xargs -d '\n' tail -v -n +1
} | sha256sum | cut -c1-16)
image=$images/$SUITE-$key.ext4

words() {
	sed 's/#.*//' "$USERLAND/$1" | xargs
}

# The machine's own mirrors of Debian, whichever release it is itself, and how to
# reach them. Updates and security fixes are there for what is released.
apt_configuration() {
	apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)' \
		'Created-By: Packages' |
		awk -v suite="$SUITE" '$1 == "Debian" && $2 == "main" {
			match($3, /(-updates|-security)?$/)
			part = substr($3, RSTART)
			if ($3 !~ /^[a-z]+(-updates|-security)?$/ || (part != "" && suite == "sid"))
				next
			print "deb " $4 " " suite part " main"
		}' | sort -u >"$scratch/sources.list"
	apt-config dump | grep -E '^Acquire::(http|https|Retries|Check-)' >"$scratch/apt.conf" || :
	[ -s "$scratch/sources.list" ] ||
		die image "this machine's apt knows no mirror of Debian (does apt-get update work?)"
}

# Packages stay in the cache for the next time. mmdebstrap's hooks know the new
# root as $1; mirrors and proxies do not stay in it.
make_tar() {
	mkdir -p "$CACHE/debs/$SUITE"
	cd "$CACHE" && mmdebstrap --variant=apt --format=tar --skip=essential/unlink \
		--include="$(words packages | tr ' ' ,)" --aptopt="$scratch/apt.conf" \
		--dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--setup-hook='mkdir -p "$1/var/cache/apt/archives"' \
		--setup-hook="sync-in debs/$SUITE /var/cache/apt/archives" \
		--customize-hook="sync-out /var/cache/apt/archives debs/$SUITE" \
		--customize-hook='rm -f "$1/etc/apt/sources.list" "$1/etc/apt/apt.conf.d/99mmdebstrap"' \
		"$SUITE" "$scratch/root.tar" - <"$scratch/sources.list"
}

# A fixed machine id: without one systemd would take this for a first boot.
make_ext4() {
	fakeroot sh -eu -c '
		mkdir "$1/root"
		tar -C "$1/root" -xf "$1/root.tar"
		cp -r "$2/overlay/." "$1/root/"
		echo diskseq >"$1/root/etc/hostname"
		echo diskseq | md5sum | cut -c1-32 >"$1/root/etc/machine-id"
		for unit in $3; do
			ln -sf /dev/null "$1/root/etc/systemd/system/$unit"
		done
		mke2fs -q -t ext4 -m 0 -O ^has_journal -L diskseq-root -d "$1/root" "$1/root.ext4" 1G
	' sh "$scratch" "$USERLAND" "$(words masked)"
}

lock 9 image
if [ ! -f "$image" ]; then
	need mmdebstrap mmdebstrap fakeroot fakeroot mke2fs e2fsprogs
	[ "$(id -u)" = 0 ] || need newuidmap uidmap
	room 1500 "$CACHE"
	make_scratch
	apt_configuration
	log=$OUT/image.log
	progress "image of Debian $SUITE" "$log" make_tar ||
		die_log image "$log" "mmdebstrap cannot make the image of $SUITE"
	progress "image of Debian $SUITE" "$log" make_ext4 ||
		die_log image "$log" "mke2fs cannot make the image"
	mkdir -p "$images"
	mv "$scratch/root.ext4" "$image"
	# Some other guest may be about to start from the one before.
	find "$images" -name "$SUITE-*.ext4" ! -path "$image" -mmin +60 -delete
fi
touch "$image"
ln -sfn "$image" "$OUT/root.ext4"
