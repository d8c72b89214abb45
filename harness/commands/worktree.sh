#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Makes work/$BASE, a whole kernel tree to change the series in: the base is its
# first commit (tagged "base"), the patches are those after it. An empty commit
# "topic: NAME" begins each topic: git rebase -i shows it among the patches and
# keeps it, and "make export" writes what follows it into that topic's folder.
# Nothing in the tree is shared with the cache.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"
. "$HARNESS/lib/topics.sh"

BASE=${BASE:-$(bases | cut -d' ' -f1)}
known_base "$BASE"
tree=$WORK/$BASE
[ ! -e "$tree" ] ||
	die usage "work/$BASE is there already: export or remove it first"

export BASE
"$HARNESS/stages/fetch.sh"
lock 8 "src-$BASE"
room 2500 "$WORK"
rm -rf "$tree.tmp"
say "copying and committing $BASE: about a minute"
cp -a --reflink=auto "$CACHE/src/$BASE" "$tree.tmp"
cd "$tree.tmp"
git init -q
# the many new objects would be packed in the background, beside the first build
git config gc.auto 0
git config user.name >/dev/null || git config user.name "$(id -un)"
git config user.email >/dev/null || git config user.email "$(id -un)@localhost"
printf '/build*\n' >>.git/info/exclude
git add -A -f
git commit -q -m "Linux $(kernel_version .)"
git tag base
for topic in $(topics "$BASE"); do
	git commit -q --allow-empty -m "topic: $topic"
	series "$BASE" "$topic" | xargs -d '\n' git am -q >"$CACHE/patch.log" 2>&1 || {
		rm -rf "$tree.tmp"
		die_log patch "$CACHE/patch.log" "$topic does not apply to $BASE"
	}
done
mv "$tree.tmp" "$tree"
say "work/$BASE is ready. Change and commit there (git commit, git rebase -i base), then:"
say "  make run WORKTREE=work/$BASE      try it, as it stands"
say "  make export BASE=$BASE            write patches/$BASE and patches/selftests"
