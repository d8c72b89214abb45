# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Bases: their names, versions and places. Sourced after lib.sh.

bases() {
	awk '!/^#/ && NF { print $1 }' "$SOURCES" | tr '\n' ' ' | sed 's/ $//'
}

# base_field BASE N: the Nth column of harness/tables/sources
base_field() {
	awk -v base="$1" -v n="$2" '$1 == base { print $n }' "$SOURCES"
}

# kernel_version DIR: from its Makefile, or nothing
kernel_version() {
	[ -f "$1/Makefile" ] || return 0
	awk '$2 == "=" {
		if ($1 == "VERSION") v = $3
		if ($1 == "PATCHLEVEL") p = $3
		if ($1 == "SUBLEVEL") s = $3
		if ($1 == "EXTRAVERSION") { e = $3; exit }
	} END { if (v != "" && p != "") print v "." p (s + 0 ? "." s : "") e }' \
		"$1/Makefile"
}

# base_of VERSION: the base that a kernel version belongs to, or nothing
base_of() {
	awk -v version="$1" '!/^#/ && NF &&
		(version == $2 || index(version, $2 ".") == 1 ||
		 index(version, $2 "-rc") == 1) { print $1; exit }' "$SOURCES"
}

# BASE is the one of WORKTREE from now on.
worktree_base() {
	BASE=$(base_of "$(kernel_version "$WORKTREE")")
	[ -n "$BASE" ] || die usage "WORKTREE=$WORKTREE is none of the bases ($(bases))"
	export BASE
}

known_base() {
	[ -n "$(base_field "$1" 1)" ] ||
		die usage "unknown BASE '$1' (there are: $(bases))"
}

# A source is in the cache when its note of origin is, which is written last.
in_cache() {
	[ -f "$CACHE/src/$1.origin" ] && [ -d "$CACHE/src/$1" ]
}
