#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The series in topics: a kernel of some of them, the tree to change them in, and that
# each patch goes back into its topic's folder.
. "$(dirname "$0")/lib.sh"
fake_world
fake_qemu pass
export WORK="$T/work"
run=$HARNESS/commands/run.sh
tree=$T/cache/diskseq/tree/v5.14-topic

# cover TOPIC LINE...: its cover letter
cover() {
	cover_file=$PATCHES/v5.14/$1/0000-cover-letter.txt
	shift
	{ printf 'Subject: [PATCH 0/1] a topic\n\nby hand\n\n' && printf '%s\n' "$@"; } >"$cover_file"
}

fake_patch 2 block/genhd.c three THREE 1-fake
fake_patch 1 block/genhd.c five FIVE 2-more
fake_patch 1 block/other.c 'not touched' touched 3-other
cover 1-fake 'Needs: nothing' 'Tests: fake'
cover 2-more 'Needs: 1-fake'
cover 3-other 'Needs: nothing' 'Tests:' ' fake'

dies "an unknown TOPIC" usage TOPIC \
	"$run" KSRC="$T/ksrc" TOPIC=3-other,4-none
dies "the selftests are none" usage TOPIC "$run" KSRC="$T/ksrc" TOPIC=selftests
dies "TOPIC with VARIANT" usage VARIANT= "$run" TOPIC=1-fake VARIANT=base

check "a topic that needs nothing" "$run" KSRC="$T/ksrc" TOPIC=3-other
check "is there" grep -qx touched "$tree/block/other.c"
check "and no other" grep -qx two "$tree/block/genhd.c"
check "with the selftests" test -f "$tree/tools/testing/selftests/block/config"
check "and only its tests" grep -q 'TEST=fake\*' "$T/out/commands"
check "a topic that needs another" "$run" TOPIC=2-more TEST=fake
check "both are there" sh -c 'grep -qx TWO "$1" && grep -qx FIVE "$1"' sh "$tree/block/genhd.c"
check "and no third" grep -qx 'not touched' "$tree/block/other.c"
check "two topics" "$run" TOPIC=3-other,1-fake
check "are there in their order" sh -c 'grep -qx THREE "$1/genhd.c" && grep -qx touched "$1/other.c"' sh "$tree/block"
check "the unpatched kernel has the selftests only" "$run" VARIANT=base
check "as it should" sh -c 'grep -qx two "$1/block/genhd.c" && test -f "$1/tools/testing/selftests/block/config"' \
	sh "$T/cache/diskseq/tree/v5.14-base"

# Whoever changes the series has a name.
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@localhost GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@localhost
work=$WORK/v5.14
in_tree() {
	git -C "$work" "$@"
}

# An export as v5.10: that of v5.14 writes the folders of this repository.
export_tree() {
	BASE=v5.10 WORKTREE=$work "$HARNESS/commands/export.sh"
}

# exported FILE...: these and no others
exported() {
	printf '%s\n' "$@" | sort >"$T/wanted"
	(cd "$PATCHES" && find v5.10 selftests -name '*.patch' | sort) | diff "$T/wanted" -
}

check "make tree" "$HARNESS/commands/worktree.sh" BASE=v5.14
mkdir -p "$PATCHES/v5.10"
for topic in 1-fake 2-more 3-other; do
	cp -r "$PATCHES/v5.14/$topic" "$PATCHES/v5.10/"
done
echo 'by hand' >"$PATCHES/differences.rst"
check "make export" export_tree
check "gives what there was" exported v5.10/1-fake/0001-patch-1.patch v5.10/1-fake/0002-patch-2.patch \
	v5.10/2-more/0001-patch-1.patch v5.10/3-other/0001-patch-1.patch selftests/0001-selftests.patch
check "and a series in that order" sh -c 'sed "s|^v5.10|v5.14|" "$1/v5.10/series" | diff "$1/v5.14/series" -' sh "$PATCHES"
check "and keeps what is written by hand" grep -qx 'by hand' "$PATCHES/v5.10/1-fake/0000-cover-letter.txt"
check "and lists the patches" grep -qx '  2  patch 2' "$PATCHES/v5.10/1-fake/0000-cover-letter.txt"
check "and counts them" grep -qx 'Subject: \[PATCH 0/2\] a topic' "$PATCHES/v5.10/1-fake/0000-cover-letter.txt"
check "and says that a patch is the same on both bases" grep -qE '^patch 2 +2 +same$' "$PATCHES/differences.rst"
cp -r "$PATCHES/v5.10" "$T/before"
check "a second time" export_tree
check "changes nothing" diff -r "$T/before" "$PATCHES/v5.10"

# A commit in the middle, another subject for the first of a topic, and a fixup.
in_tree config sequence.editor true
echo more >>"$work/include/uapi/linux/fs.h"
in_tree commit -qam "fixup! patch 2"
cat >"$T/editor" <<'END'
#!/bin/sh
sed -i -e '/topic: 2-more/a exec echo new >block/new.c && git add block/new.c && git commit -qm "a new one"' \
	-e '/topic: 3-other/{n;s/^pick/reword/}' "$1"
END
printf '#!/bin/sh\necho "another subject" >"$1"\n' >"$T/reword"
chmod +x "$T/editor" "$T/reword"
check "a rebase" env GIT_SEQUENCE_EDITOR="$T/editor" GIT_EDITOR="$T/reword" git -C "$work" rebase -q -i --autosquash base
check "and an export" export_tree
check "each patch is in its folder" exported v5.10/1-fake/0001-patch-1.patch v5.10/1-fake/0002-patch-2.patch \
	v5.10/2-more/0001-a-new-one.patch v5.10/2-more/0002-patch-1.patch v5.10/3-other/0001-another-subject.patch \
	selftests/0001-selftests.patch
check "with the fixup" grep -q '^+more' "$PATCHES/v5.10/1-fake/0002-patch-2.patch"

check "which the other base lacks" grep -qE '^patch 2 +2 +-0 \+1$' "$PATCHES/differences.rst"
check "as it does the new patch" grep -qE '^a new one +none +1$' "$PATCHES/differences.rst"
check "and what was written by hand is still there once" same "$(grep -cx 'by hand' "$PATCHES/differences.rst")" 1

in_tree rebase -q --no-keep-empty -f base
dies "a tree without topics" usage . export_tree
finish
