#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Makes $TREE, the kernel tree of BASE and VARIANT, from the source in the
# cache: hard links to it, and a git repository that tracks only the files that
# patches touch. git replaces a file and never writes through the link.
#
#   series         every patch of patches/$BASE
#   topic-LIST     these topics, what they and their tests need, and the selftests
#   topic-NAME/N   the same with only the first N patches of this topic
#   base           the unpatched kernel with the selftests
#   mutant-NAME    the series and tests/mutants/$BASE/NAME.patch; all of them
#                  in one tree, one after the other
#
# Patches are applied in a repository of their own and reach the tree in one
# step: a patch that does not apply leaves the tree as it was, and only files
# whose contents change get a new time, so kbuild rebuilds just those.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/repo.sh"
. "$HARNESS/lib/topics.sh"

: "${BASE:?}" "${TREE:?}"
src=$CACHE/src/$BASE
series=$CACHE/tree/$BASE-series

[ -s "$PATCHES/$BASE/series" ] || die patch "there are no patches in $PATCHES/$BASE"
make_scratch
mutation=
case $VARIANT in
base)	series "$BASE" selftests ;;
topic-*)
	list=${VARIANT#topic-} list=${list%/*}
	known_topics "$BASE" "$list"
	series "$BASE" "$(with_needs "$BASE" "$list" Needs Tests-need)" >"$scratch/topics"
	case $VARIANT in
	*/*)	last=$(series "$BASE" "$list" | wc -l)
		head -n "$(($(wc -l <"$scratch/topics") - last + ${VARIANT##*/}))" "$scratch/topics" ;;
	*)	cat "$scratch/topics" ;;
	esac
	series "$BASE" selftests ;;
*)	series "$BASE" ;;
esac >"$scratch/series"
eval "set -- $(words <"$scratch/series")"
[ $# -gt 0 ] || die patch "there are no patches for $BASE $VARIANT in $PATCHES"
case $VARIANT in
mutant-*)
	mutation=$TOP/tests/mutants/$BASE/${VARIANT#mutant-}.patch
	[ -f "$mutation" ] || die usage "there is no mutant ${VARIANT#mutant-} for $BASE" ;;
esac

# The source is named by its note of origin and when that was written.
lock 8 "src-$BASE"
key=$({
	echo "format 1"
	cat "$CACHE/src/$BASE.origin"
	stat -c %Y "$CACHE/src/$BASE.origin"
} | sha256sum | cut -c1-40)
contents=$(cat "$@" ${mutation:+"$mutation"} | sha256sum | cut -c1-40)
[ "$(cat "$TREE/.git/diskseq-stamp" 2>/dev/null)" != "$key $contents" ] || exit 0

log=${OUT:-$CACHE}/patch.log

# The tree itself: a mutant starts from the series, and from what was built there.
if [ "$(cut -d' ' -f1 "$TREE/.git/diskseq-stamp" 2>/dev/null)" != "$key" ]; then
	room 300 "$CACHE"
	rm -rf "$TREE"
	mkdir -p "$CACHE/tree"
	if [ -n "$mutation" ] && [ -d "$series/.git" ]; then
		mkdir "$scratch/tree"
		for entry in "$series"/* "$series"/.[!.]*; do
			case ${entry##*/} in
			build | .git)	cp -a --reflink=auto "$entry" "$scratch/tree/" ;;
			build-*)	;;
			*)		cp -al "$entry" "$scratch/tree/" ;;
			esac
		done
		rm -f "$scratch/tree/.git/diskseq-stamp"
	else
		cp -al "$src" "$scratch/tree" || die disk "cannot link $src into a new tree"
		git init -q --template= "$scratch/tree"
		mkdir -p "$scratch/tree/.git/info"
		printf '*\n' >"$scratch/tree/.git/info/exclude"
	fi
	mv "$scratch/tree" "$TREE"
fi

# What the patches touch, and what earlier ones touched: that must go back.
touched_paths "$@" ${mutation:+"$mutation"} >"$scratch/paths" 2>"$log" ||
	die_log patch "$log" "a patch of $PATCHES/$BASE is malformed"
git -C "$TREE" ls-tree -r --name-only HEAD >>"$scratch/paths" 2>/dev/null || :
sort -u "$scratch/paths" | pristine_repo "$src" "$scratch/repo"
cd "$scratch/repo"
pristine=$(git rev-parse HEAD)

git am -q "$@" >"$log" 2>&1 || {
	subject=$(sed -n 's/^Patch failed at //p' "$log")
	die_log patch "$log" "a patch does not apply to $BASE: ${subject:-see the log}"
}
if [ -n "$mutation" ]; then
	git apply --index "$mutation" >"$log" 2>&1 ||
		die_log patch "$log" "the mutation ${mutation##*/} does not apply to the series"
	git commit -q -m "${VARIANT}"
fi

# A tree that has no commit yet holds the pristine files.
cd "$TREE"
rm -f .git/diskseq-stamp .git/index.lock .git/HEAD.lock
git fetch -q --force "$scratch/repo" HEAD "$pristine:refs/heads/$BASE" >"$log" 2>&1 ||
	die_log patch "$log" "cannot take the patched files over into $TREE"
git rev-parse -q --verify HEAD >/dev/null || git reset -q --mixed "$BASE"
git update-index -q --refresh >/dev/null || :
git reset -q --hard FETCH_HEAD
echo "$key $contents" >.git/diskseq-stamp
