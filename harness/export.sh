#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Writes patches/$BASE from the commits of a work tree: work/$BASE (of "make
# tree"), or WORKTREE=, any git tree of the kernel with the series on top. The
# base is its tag "base", else the tag that is named like it, else its first
# commit. For v5.14 the folders that show the series by file are written too.

. "$(dirname "$0")/lib.sh"
. "$HARNESS/base.sh"
. "$HARNESS/layout.sh"

BASE=${BASE:-$layout_base}
known_base "$BASE"
tree=${WORKTREE:-$TOP/work/$BASE}
[ -e "$tree/.git" ] ||
	die usage "there is no work tree $tree ('make tree BASE=$BASE' makes one, WORKTREE= names one)"
[ -z "$(git -C "$tree" status --porcelain --untracked-files=no)" ] ||
	die usage "$tree has changes that are not committed"
for from in refs/tags/base "refs/tags/$BASE" "$(git -C "$tree" rev-list --max-parents=0 HEAD)"; do
	from=$(git -C "$tree" rev-parse -q --verify "$from^{commit}") && break
done
[ -n "$(git -C "$tree" rev-list "$from..HEAD")" ] ||
	die usage "$tree has no commit after its base"

# Nobody's git configuration shall show in the patches.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
make_scratch
mkdir "$scratch/patches"
git -C "$tree" format-patch -q --full-index --zero-commit --no-signature \
	--no-renames -o "$scratch/patches" "$from..HEAD"
(cd "$scratch/patches" && printf '%s\n' ./*.patch | sed 's|^\./||' >series)

# The cover letter is written by hand and stays.
mkdir -p "$PATCHES/$BASE"
rm -f "$PATCHES/$BASE"/0*.patch
cp "$scratch/patches"/* "$PATCHES/$BASE/"
say "patches/$BASE: $(wc -l <"$scratch/patches/series") patches"

[ "$BASE" = "$layout_base" ] || exit 0
for dir in $layout_dirs; do
	rm -rf "${TOP:?}/$dir"
done
lay_out "$tree" "$from" HEAD "$TOP"
say "the series by file: $(git -C "$tree" diff --name-only "$from" HEAD | wc -l) files"
