#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Puts a base's pristine source into the cache: from KSRC= (a tree or a tarball), or, if
# it is not in the cache yet, from the place in harness/tables/sources. Without BASE= it
# takes the first base of that table that is available. With OUT set it writes the name
# of the base to $OUT/base.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"
. "$HARNESS/lib/debian.sh"

BASE=${BASE:-}
KSRC=${KSRC:-}

# Is DIR a kernel of BASE that the series can start from?
validate() {
	version=$(kernel_version "$1")
	[ -n "$version" ] || die badsource "KSRC=$KSRC is no kernel source"
	[ -f "$1/block/genhd.c" ] || die badsource "KSRC=$KSRC is no kernel source"
	of=$(base_of "$version")
	[ -n "$of" ] ||
		die badsource "KSRC=$KSRC is Linux $version, which is none of the bases ($(bases))"
	[ -z "$BASE" ] || [ "$of" = "$BASE" ] ||
		die badsource "KSRC=$KSRC is Linux $version, not $BASE"
	[ "$(base_field "$of" 6)" = number ] || ! grep -qs BLKGETDISKSEQ "$1/include/uapi/linux/fs.h" ||
		die badsource "KSRC=$KSRC has the series already (BLKGETDISKSEQ is there)"
	[ ! -e "$1/.config" ] || die badsource "KSRC=$KSRC has been built in: run 'make mrproper' there first"
	BASE=$of
}

# Other blobs are no error: what counts is whether the patches apply.
compare_blobs() {
	while read -r base blob path; do
		[ "$base" = "$BASE" ] || continue
		[ "$(git hash-object --no-filters "$1/$path" 2>/dev/null)" = "$blob" ] ||
			say "note: $path is not the one of $BASE (see harness/tables/blobs)"
	done <"$HARNESS/tables/blobs"
}

# install_source DIR ORIGIN: the one place where a source enters the cache
install_source() {
	compare_blobs "$1"
	mkdir -p "$CACHE/src"
	rm -f "$CACHE/src/$BASE.origin"
	rm -rf "$CACHE/src/$BASE"
	mv "$1" "$CACHE/src/$BASE"
	printf '%s\n' "$2" >"$scratch/origin"
	mv "$scratch/origin" "$CACHE/src/$BASE.origin"
	say "$BASE: Linux $(kernel_version "$CACHE/src/$BASE") is in the cache, from $2"
}

unpack() {
	mkdir "$scratch/unpacked"
	progress "unpacking" "$scratch/log" \
		tar -C "$scratch/unpacked" --strip-components=1 -xf "$1" ||
		die_log "$2" "$scratch/log" "cannot unpack $1"
}

from_ksrc() {
	[ -e "$KSRC" ] || die badsource "KSRC=$KSRC does not exist"
	if [ -d "$KSRC" ]; then
		KSRC=$(cd "$KSRC" && pwd)
		validate "$KSRC"
		lock 8 "src-$BASE"
		origin=$CACHE/src/$BASE.origin
		if in_cache "$BASE" && [ "$(cat "$origin")" = "KSRC=$KSRC" ] &&
		   [ -z "$(find "$KSRC" -name .git -prune -o -newer "$origin" -print -quit)" ]; then
			return
		fi
		room 2500 "$CACHE"
		make_scratch
		mkdir "$scratch/unpacked"
		# Not hard links: the user may go on editing that tree.
		progress "copying $KSRC" "$scratch/log" sh -c \
			'tar -C "$1" --exclude=./.git -cf - . | tar -C "$2" -xf -' \
			sh "$KSRC" "$scratch/unpacked" ||
			die_log source "$scratch/log" "cannot copy $KSRC"
	else
		need xz xz-utils
		for base in $(bases); do
			[ "$(basename "$KSRC")" = "$(basename "$(base_field "$base" 4)")" ] || continue
			[ "$(sha256sum <"$KSRC" | cut -d' ' -f1)" = "$(base_field "$base" 5)" ] ||
				die checksum "KSRC=$KSRC has the name of $base's tarball but not its sha256"
		done
		room 3000 "$CACHE"
		make_scratch
		unpack "$KSRC" badsource
		validate "$scratch/unpacked"
		lock 8 "src-$BASE"
	fi
	install_source "$scratch/unpacked" "KSRC=$KSRC"
}

from_tarball() {
	url=$(base_field "$BASE" 4)
	sum=$(base_field "$BASE" 5)
	file=$CACHE/download/$(basename "$url")
	need curl curl xz xz-utils
	room 3000 "$CACHE"
	mkdir -p "$CACHE/download"
	make_scratch
	if [ -t 1 ]; then meter=--progress-bar; else meter=--silent; fi
	say "$BASE: fetching $url"
	curl "$meter" --show-error --fail --location --continue-at - \
		--connect-timeout 10 --speed-limit 1000 --speed-time 30 \
		--output "$file" "$url" 2>"$scratch/log" || {
		reason="$(tail -n 1 "$scratch/log")"
		return 1
	}
	if [ "$(sha256sum <"$file" | cut -d' ' -f1)" != "$sum" ]; then
		rm -f "$file"
		die checksum "$url does not have the sha256 that harness/tables/sources gives: deleted"
	fi
	unpack "$file" source
	install_source "$scratch/unpacked" "$url"
	rm -f "$file"
}

from_debian() {
	suite=$(base_field "$BASE" 4)
	package=$(base_field "$BASE" 5)
	command -v apt-get >/dev/null || {
		reason="no apt-get here"
		return 1
	}
	need xz xz-utils
	room 3000 "$CACHE"
	reason="no Debian mirror of this machine has $package in $suite"
	say "$BASE: fetching Debian's $package from $suite"
	on_mirrors "$suite" download "$package" || return
	dpkg-deb -x "$scratch"/deb/*.deb "$scratch/deb" >"$scratch/log" 2>&1 ||
		die_log source "$scratch/log" "cannot unpack Debian's $package"
	unpack "$scratch/deb/usr/src/$package.tar.xz" source
	install_source "$scratch/unpacked" "Debian's $package"
}

# have BASE: gets it into the cache; if that fails, $reason is why
have() {
	BASE=$1
	lock 8 "src-$BASE"
	in_cache "$BASE" && return
	case $(base_field "$BASE" 3) in
	tarball) from_tarball ;;
	debian)  from_debian ;;
	esac
}

[ -z "$BASE" ] || known_base "$BASE"
if [ -n "$KSRC" ]; then
	from_ksrc
elif [ -n "$BASE" ]; then
	have "$BASE" ||
		die source "no source for $BASE: not in the cache, and $reason (KSRC=DIR names one)"
else
	why=
	for base in $(bases); do
		have "$base" && break
		why="$why; $base: $reason"
		BASE=
	done
	[ -n "$BASE" ] || die source "no kernel source is available${why} (KSRC=DIR names one)"
	if [ -n "$why" ]; then
		say "base: $BASE${why}"
	else
		say "base: $BASE, the first whose source is available (BASE= chooses)"
	fi
fi
[ -z "${OUT:-}" ] || echo "$BASE" >"$OUT/base"
