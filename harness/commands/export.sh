#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Writes patches/$BASE from the commits of a work tree: work/$BASE (of "make tree"), or
# WORKTREE=, any git tree of the kernel with the series on top. The base is its tag
# "base", else the tag that is named like it, else its first commit. An empty commit
# "topic: NAME" begins each topic. The cover letters are written by hand down to the
# line "Patches:", and from there on by this; so is the table in patches/differences.rst.
# patches/selftests, which all bases share, and the folders that show the series by file
# come from the tree of v5.14.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"
. "$HARNESS/lib/topics.sh"
. "$HARNESS/lib/layout.sh"
. "$HARNESS/lib/differences.sh"

BASE=${BASE:-$layout_base}
known_base "$BASE"
tree=${WORKTREE:-$WORK/$BASE}
[ -e "$tree/.git" ] ||
	die usage "there is no work tree $tree ('make tree BASE=$BASE' makes one, WORKTREE= names one)"
[ -z "$(git -C "$tree" status --porcelain --untracked-files=no)" ] ||
	die usage "$tree has changes that are not committed"
for from in refs/tags/base "refs/tags/$BASE" "$(git -C "$tree" rev-list --max-parents=0 HEAD)"; do
	from=$(git -C "$tree" rev-parse -q --verify "$from^{commit}") && break
done
[ -n "$(git -C "$tree" rev-list "$from..HEAD")" ] ||
	die usage "$tree has no commit after its base"

# The patches must not depend on the git configuration of the user.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
make_scratch
new=$scratch/patches
mkdir -p "$new/$BASE"

case $(base_field "$BASE" 3) in
tarball)
	base_name="$BASE, $(basename "$(base_field "$BASE" 4)"), sha256
 $(base_field "$BASE" 5)" ;;
debian)
	git -C "$tree" show "$from:Makefile" >"$scratch/Makefile"
	base_name="$(kernel_version "$scratch"), Debian's $(base_field "$BASE" 5) ($(base_field "$BASE" 4))" ;;
esac

# format TOPIC FROM TO: its patches into $new
format() {
	dir=$(topic_dir "$BASE" "$1")
	[ ! -e "$new/$dir" ] || die usage "$tree has two commits 'topic: $1'"
	# One line of context is what the bases have in common around the line that the
	# selftests add to the kernel's list of them.
	context=3
	[ "$1" != selftests ] || context=1
	git -C "$tree" format-patch -q --full-index --zero-commit --no-signature \
		--no-renames -U"$context" -o "$new/$dir" "$2..$3"
	[ ! -d "$new/$dir" ] || cover_letter "$1" "$2" "$3"
}

# cover_letter TOPIC FROM TO: that of $PATCHES, with what is generated made anew
cover_letter() {
	letter=$(topic_dir "$BASE" "$1")/0000-cover-letter.txt
	if [ ! -f "$PATCHES/$letter" ]; then
		say "patches/$letter is missing: write one, and export again"
		return
	fi
	total=$(git -C "$tree" rev-list --count "$2..$3")
	{
		sed -e "1s|\[PATCH [0-9/]*\]|[PATCH $(printf "%0${#total}d" 0)/$total]|" \
			-e '/^Patches:$/,$d' "$PATCHES/$letter"
		printf 'Patches:\n\n'
		cover_list "$tree" "$2" "$3"
		[ "$1" = selftests ] || printf '\nBase: %s\n' "$base_name"
	} >"$new/$letter"
}

# Patches without what another base makes differ: date, ids and line numbers
plain() {
	cat "$@" | sed -e '/^Date: /d' -e '/^index /d' -e 's/^@@ [-+0-9, ]* @@.*/@@/'
}

# list BASE TOPIC...: the series file
list() {
	list_base=$1
	shift
	for list_topic; do
		list_dir=$(topic_dir "$list_base" "$list_topic")
		echo "# $list_topic"
		for list_patch in "$PATCHES/$list_dir"/0*.patch; do
			[ ! -f "$list_patch" ] || echo "$list_dir/${list_patch##*/}"
		done
	done >"$scratch/series"
	cp "$scratch/series" "$PATCHES/$list_base/series"
}

# topic and its first and last commit, a line each
git -C "$tree" log --reverse --format='%H %s' "$from..HEAD" | awk '
	$2 == "topic:" { if (topic) print topic, first, last; topic = $3; first = last = $1; next }
	!topic { print "-", $1; exit }
	{ last = $1 }
	END { if (topic) print topic, first, last }' >"$scratch/topics"
while read -r topic first last; do
	[ "$topic" != - ] ||
		die usage "$tree has a patch before its first topic (git commit --allow-empty -m 'topic: NAME' begins one)"
	git -C "$tree" diff --quiet "$first^" "$first" || die usage "$tree changes files in 'topic: $topic'"
	format "$topic" "$first" "$last"
done <"$scratch/topics"

if [ "$BASE" != "$layout_base" ] && [ -d "$new/selftests" ]; then
	[ "$(plain "$new"/selftests/0*.patch)" = "$(plain "$PATCHES"/selftests/0*.patch)" ] ||
		say "note: patches/selftests stays as it is, and differs from $tree: it comes from $layout_base"
	rm -rf "$new/selftests"
fi

mkdir -p "$PATCHES/$BASE"
rm -f "$PATCHES/$BASE"/*/0*.patch
[ ! -d "$new/selftests" ] || rm -f "$PATCHES"/selftests/0*.patch
cp -r "$new"/* "$PATCHES/"
# shellcheck disable=SC2046 # words
list "$BASE" $(cut -d' ' -f1 "$scratch/topics")
# the selftests may have other names now
for series in "$PATCHES"/*/series; do
	other=$(basename "$(dirname "$series")")
	# shellcheck disable=SC2046
	list "$other" $(topics "$other")
done
while read -r topic first last; do
	say "patches/$(topic_dir "$BASE" "$topic"): $(series "$BASE" "$topic" | wc -l) patches"
done <"$scratch/topics"

if [ -f "$PATCHES/differences.rst" ]; then
	differences_file >"$scratch/differences"
	cp "$scratch/differences" "$PATCHES/differences.rst"
fi

[ "$BASE" = "$layout_base" ] || exit 0
for dir in $layout_dirs; do
	rm -rf "${TOP:?}/$dir"
done
lay_out "$tree" "$from" HEAD "$TOP"
say "the series by file: $(git -C "$tree" diff --name-only "$from" HEAD | wc -l) files"
