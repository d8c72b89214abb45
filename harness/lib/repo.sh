# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Small git repositories to apply the series in: they hold only what it touches.
# Sourced after lib.sh.

# Neither the user's git configuration nor a repository around the cache counts,
# and equal patches give equal commits.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_CEILING_DIRECTORIES="$CACHE"
export GIT_AUTHOR_NAME=diskseq GIT_AUTHOR_EMAIL=diskseq@localhost
export GIT_COMMITTER_NAME=diskseq GIT_COMMITTER_EMAIL=diskseq@localhost
export GIT_AUTHOR_DATE='1970-01-01 00:00:00 +0000'
export GIT_COMMITTER_DATE='1970-01-01 00:00:00 +0000'

# touched_paths PATCH...: git apply reads nothing of a tree for that, but leaves
# out what is not below the present directory when it is in a repository.
touched_paths() {
	(cd / && git apply --numstat "$@") >"${scratch:?}/numstat" || return
	cut -f3 "$scratch/numstat" | sort -u
}

# touched_sources PATCH...: those of them that are compiled into a kernel
touched_sources() {
	touched_paths "$@" | grep '\.[ch]$' | grep -v '^tools/'
}

# warned LOG: what it warns of in the files that $scratch/paths lists
warned() {
	grep 'warning:' "$1" | grep -F -f "${scratch:?}/paths" || :
}

# pristine_repo SOURCE REPOSITORY <paths: those of them that SOURCE has, committed
pristine_repo() {
	git init -q --template= "$2"
	while read -r repo_path; do
		[ -f "$1/$repo_path" ] || continue
		mkdir -p "$2/$(dirname "$repo_path")"
		cp -p "$1/$repo_path" "$2/$repo_path"
	done
	# It decides what diff puts behind the @@.
	[ ! -f "$1/.gitattributes" ] || cp -p "$1/.gitattributes" "$2/"
	git -C "$2" add -A -f
	git -C "$2" commit -q --allow-empty -m pristine
}
