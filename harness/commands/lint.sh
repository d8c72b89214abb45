#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Checks the scripts, and the patches of each base, without booting a kernel. What needs
# a base's source is skipped, with a message, where the cache has none. The last line
# counts.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"
. "$HARNESS/lib/repo.sh"
. "$HARNESS/lib/layout.sh"
. "$HARNESS/lib/topics.sh"
. "$HARNESS/lib/differences.sh"

need git git quilt quilt shellcheck shellcheck sparse sparse perl perl patch patch \
	flex flex bison bison bc bc ccache ccache /usr/include/libelf.h libelf-dev
make_scratch
OUT=${OUT:-$scratch}
export OUT
passed=0 failed=0 skipped=0
checked=

# expect WHAT COMMAND...: passes if the command exits 0; else its output is shown
expect() {
	what=$1
	shift
	if "$@" >"$scratch/said" 2>&1; then
		passed=$((passed + 1))
		say "ok      $what"
	else
		failed=$((failed + 1))
		say "not ok  $what"
		sed 's/^/        /' "$scratch/said" | head -n 40
	fi
}

skip() {
	skipped=$((skipped + 1))
	say "skip    $1: $2"
}

# Every file names its license; a diff needs no line of its own.
spdx() {
	git -C "$TOP" ls-files -co --exclude-standard | sort -u |
	while read -r file; do
		case $file in
		patches/* | *.diff | COPYING | LICENSES/*) continue ;;
		esac
		[ ! -f "$TOP/$file" ] || head -n 5 "$TOP/$file" | grep -q 'SPDX-License-Identifier: ' ||
			echo "$file: no SPDX-License-Identifier in the first five lines"
	done >"$scratch/spdx"
	cat "$scratch/spdx"
	[ ! -s "$scratch/spdx" ]
}

scripts() {
	cd "$TOP" || return
	# SC2016: what is in single quotes here is for an inner shell, or apt's own.
	find harness tests userland .ci -type f -exec grep -lZ -m 1 '^#!/bin/sh' {} + |
		xargs -0 shellcheck -x -P SCRIPTDIR:harness -e SC2016 harness/lib/lib.sh tests/lib.sh userland/guest/lib.sh
}

init_builds() {
	gcc -static -O2 -Wall -Wextra -Werror -o "$scratch/init" "$HARNESS"/guest/init*.c
}

differences_in_step() {
	differences_file | diff "$PATCHES/differences.rst" - || { echo "run make export"; return 1; }
}

# The patches name the blobs that they start from and end at. Those must form a
# chain from the base's true files; that needs no source where harness/tables/blobs
# knows them. The selftests name those of $layout_base. Leaves "blob path" of the ends
# in $scratch/ends.
blob_chain() {
	awk -v base="$BASE" -v src="$CACHE/src/$BASE" -v ends="$scratch/ends" \
		-v foreign="$([ "$BASE" = "$layout_base" ] || echo "$PATCHES/selftests/")" '
		NR == FNR { if ($1 == base) at[$3] = $2; next }
		/^diff --git / { path = substr($4, 3) }
		/^index [0-9a-f]*\.\./ {
			split($2, id, "[.][.]")
			if (length(id[1]) != 40 || length(id[2]) != 40) {
				print FILENAME ": " path ": ids are not whole (--full-index)"
				bad = 1
			}
			if (!(path in at) && id[1] !~ /^0+$/) {
				cmd = "git hash-object --no-filters " src "/" path " 2>/dev/null"
				if ((cmd | getline at[path]) <= 0)
					at[path] = id[1]
				close(cmd)
			}
			# a file of the kernel that they change: another on this base
			if (foreign && index(FILENAME, foreign) == 1 && !(path in end) && id[1] !~ /^0+$/)
				next
			if (id[1] !~ /^0+$/ && at[path] != id[1]) {
				print FILENAME ": " path ": starts from " id[1] ", not from " at[path]
				bad = 1
			}
			at[path] = id[2]
			end[path] = id[2]
		}
		END { for (path in end) print end[path], path >ends; exit bad }
	' "$HARNESS/tables/blobs" "$@"
}

# Each folder's patches are in the series, in the order of their names.
series_file() {
	series "$BASE" >"$scratch/series"
	printf '%s\n' "$PATCHES/$BASE"/*/0*.patch "$PATCHES"/selftests/0*.patch | diff - "$scratch/series"
}

# What git writes below a message after a conflict is not part of it.
messages() {
	! grep '^# Conflicts:' "$@"
}

# What a cover letter names is there: what the topic needs, before it, and its tests.
cover_letter() {
	[ -f "$PATCHES/$(topic_dir "$BASE" "$1")/0000-cover-letter.txt" ] ||
		{ echo "there is none"; return 1; }
	for need in $(cover_words "$BASE" "$1" Needs; cover_words "$BASE" "$1" Tests-need); do
		topics "$BASE" | sed "/^$1\$/,\$d" | grep -qxF "$need" ||
			{ echo "needs $need, which does not come before it"; return 1; }
	done
	for test in $(cover_words "$BASE" "$1" Tests); do
		grep -q "^+++ b/.*/$test\.c\$" "$PATCHES"/selftests/0*.patch ||
			{ echo "names the test $test, which is not there"; return 1; }
	done
}

# Each test is one that some topic names.
tested() {
	for topic in $(topics "$BASE"); do
		cover_words "$BASE" "$topic" Tests
	done | sort -u >"$scratch/tested"
	sed -n 's|^+++ b/.*/\(diskseq_[a-z0-9_]*_test\)\.c$|\1|p' "$PATCHES"/selftests/0*.patch | sort -u |
		comm -13 "$scratch/tested" - | sed 's/$/: no cover letter names this test/' >"$scratch/untested"
	cat "$scratch/untested"
	[ ! -s "$scratch/untested" ]
}

# harness/tables/cases names every case of the kselftests and no other, and rows that
# there are.
cases_named() {
	awk -f "$HARNESS/awk/case-names.awk" "$PATCHES"/selftests/0*.patch | sort >"$scratch/cases"
	sed '/^[#@]/d' "$HARNESS/tables/cases" | cut -f1,2 | sort | diff "$scratch/cases" - || return
	{
		sed '/^#/d' "$HARNESS/tables/contract" | cut -f1
		sed -n 's/^   \* - \(D[0-9]*\)$/\1/p' "$TOP/doc/defects.rst"
		echo -
	} >"$scratch/rows"
	sed -n 's/^\(@[^	]*\)	.*/\1/p' "$HARNESS/tables/cases" >>"$scratch/rows"
	! sed -e '/^#/d' -e 's/.*	//' -e 's/:[^ ]*//g' "$HARNESS/tables/cases" | tr ' ' '\n' |
		grep -vxF -f "$scratch/rows"
}

# What a cover letter lists is what there is, when all are applied in $scratch/repo.
cover_lists() {
	from=pristine
	for topic in $(topics "$BASE"); do
		to=$(git -C "$scratch/repo" rev-list --reverse "$from..patched" |
			sed -n "$(series "$BASE" "$topic" | wc -l)p")
		cover_list "$scratch/repo" "$from" "$to" | grep . >"$scratch/listed"
		from=$to
		sed -e '1,/^Patches:$/d' -e '/^Base: /,$d' -e '/^$/d' \
			"$PATCHES/$(topic_dir "$BASE" "$topic")/0000-cover-letter.txt" >"$scratch/lists"
		diff "$scratch/listed" "$scratch/lists" || { echo "$topic: run make export"; return 1; }
	done
}

# Applies with patch(1) too, at the very lines that it names; the selftests at
# those of $layout_base.
no_fuzz() {
	sort -u "$scratch/paths" | pristine_repo "$CACHE/src/$BASE" "$scratch/plain"
	for patch; do
		echo "applying $patch"
		patch -d "$scratch/plain" -p1 -F0 --no-backup-if-mismatch <"$patch" || return
	done >"$scratch/patch.log"
	! awk -v layout="$layout_base" -v base="$BASE" '
		/^applying / { selftest = $2 ~ /\/selftests\// }
		/^Hunk .*fuzz/ || (/^Hunk .*offset/ && !(selftest && base != layout))
	' "$scratch/patch.log" | grep .
}

# quilt PUSH: the series file is one, below $PATCHES
quilt_push() {
	sort -u "$scratch/paths" | pristine_repo "$CACHE/src/$BASE" "$scratch/quilt"
	(cd "$scratch/quilt" && QUILT_PATCHES="$PATCHES" QUILT_SERIES="$BASE/series" \
		quilt --quiltrc=- push -aq --fuzz=0)
}

applies() {
	git -C "$scratch/repo" am -q "$@" || return
	while read -r blob path; do
		[ "$(git -C "$scratch/repo" rev-parse "HEAD:$path")" = "$blob" ] ||
			{ echo "$path does not become what the patches say"; return 1; }
	done <"$scratch/ends"
}

# applies_alone TOPIC: after what it needs, and nothing else
applies_alone() {
	eval "set -- $(series "$BASE" "$(with_needs "$BASE" "$1" Needs)" | words)"
	git -C "$scratch/repo" reset -q --hard pristine
	git -C "$scratch/repo" am -q "$@"
}

# Several at once, as it is slow; the selftests for the first base only.
checkpatch() {
	# It keeps the names that the headers have in a file beside them: one process
	# writes that before many read it.
	echo 'int fooBar;' >"$scratch/names.c"
	(cd "$TREE" && perl scripts/checkpatch.pl --strict --quiet -f "$scratch/names.c" >/dev/null) || :
	# MAINTAINERS gets its entry from MAINTAINERS-snippet.
	checkpatch_status=0
	series "$BASE" ${checked:+"$(topics "$BASE" | grep -vxF selftests | tr '\n' ,)"} |
		(cd "$TREE" && xargs -d '\n' -n 1 -P "$(nproc)" sh -c '
		said=$(perl scripts/checkpatch.pl --strict --quiet --summary-file --show-types \
			--ignore FILE_PATH_CHANGES "$1" 2>&1) || { echo "$said"; exit 1; }
	' checkpatch) || checkpatch_status=1
	rm -f "$TREE"/.checkpatch-camelcase.*
	return "$checkpatch_status"
}

# Without the source it is the ids and the lines that must agree, with it every
# byte.
in_step() {
	mkdir -p "$scratch/layout" "$scratch/shown"
	for dir in $layout_dirs; do
		[ ! -d "$TOP/$dir" ] || cp -r "$TOP/$dir" "$scratch/shown/"
	done
	if [ -d "$scratch/repo/.git" ]; then
		lay_out "$scratch/repo" pristine patched "$scratch/layout"
		diff -r "$scratch/layout" "$scratch/shown"
		return
	fi
	find "$scratch/shown" -name '*.diff' >"$scratch/diffs"
	# shellcheck disable=SC2046 # paths of the kernel's have no spaces
	awk -f "$HARNESS/awk/netlines.awk" "$@" sign=-1 $(cat "$scratch/diffs") || return
	while read -r blob path; do
		if [ -f "$scratch/shown/$path" ]; then
			[ "$(git hash-object --no-filters "$scratch/shown/$path")" = "$blob" ]
			rm "$scratch/shown/$path"
		else
			grep -q "^index [0-9a-f]*\.\.$blob" "$scratch/shown/$path.diff"
			rm -f "$scratch/shown/$path.diff"
		fi || { echo "$path is not what the patches make of it (make export)"; return 1; }
	done <"$scratch/ends"
	find "$scratch/shown" -type f | grep . && return 1
	return 0
}

# What VARIANT's touched files are warned of, without line numbers.
warnings() {
	variant=$1
	TREE=$CACHE/tree/$BASE-$variant
	BUILD=$TREE/build-lint
	export TREE BUILD
	if ! { VARIANT=$variant "$HARNESS/stages/tree.sh" && "$HARNESS/stages/config.sh"; } >"$scratch/log" 2>&1; then
		cat "$scratch/log"
		return 1
	fi
	objects=
	while read -r path; do
		case $path in
		tools/* | Documentation/*) ;;
		*.c) [ ! -f "$TREE/$path" ] || objects="$objects ${path%.c}.o" ;;
		esac
	done <"$scratch/paths"
	for object in $objects; do
		rm -f "$BUILD/$object"
	done
	# First what kbuild compiles on its own account.
	set -- O="$BUILD" CC='ccache gcc' HOSTCC='ccache gcc' \
		EXTRA_CFLAGS=-Wno-use-after-free LOCALVERSION= -j"$(nproc)" \
		C=2 CHECK=sparse W=1
	# shellcheck disable=SC2086 # a list
	if ! { kmake "$@" prepare && kmake "$@" $objects >"$scratch/make.log" 2>&1; } >"$scratch/log" 2>&1; then
		tail -n 20 "$scratch/log" "$scratch/make.log"
		return 1
	fi
	{
		grep -E '(warning|error):' "$scratch/make.log" || :
		cd "$TREE"
		while read -r path; do
			case $path in
			*.[ch])	[ ! -f "$path" ] || perl scripts/kernel-doc -none "$path" 2>&1 ;;
			*/ABI/*) rm -rf "$scratch/abi" && mkdir "$scratch/abi"
				cp "$path" "$scratch/abi/"
				perl scripts/get_abi.pl validate --dir "$scratch/abi" 2>&1 |
					sed "s|$scratch/abi|ABI|" ;;
			esac
		done <"$scratch/paths"
	} | sed -E -e 's|^(\.\./)+||' -e 's/:[0-9]+(:[0-9]+)?:/:/' -e 's/#[0-9]+:/:/' | sort >"$scratch/warnings.$variant"
}

nothing_new() {
	warnings base || return
	warnings series || return
	! comm -13 "$scratch/warnings.base" "$scratch/warnings.series" | grep .
}

expect "every file has an SPDX line" spdx
expect "shellcheck" scripts
expect "init builds without a warning" init_builds
expect "patches/differences.rst shows what differs between the bases" differences_in_step
expect "harness/tables/cases names the cases of the kselftests" cases_named

for BASE in $(bases); do
	export BASE
	if [ ! -s "$PATCHES/$BASE/series" ]; then
		skip "$BASE" "no patches"
		continue
	fi
	eval "set -- $(series "$BASE" | words)"
	rm -rf "$scratch/repo" "$scratch/plain" "$scratch/quilt"
	touched_paths "$@" >"$scratch/paths"
	expect "$BASE: the patches start from the true files" blob_chain "$@"
	expect "$BASE: the series file lists the patches" series_file
	expect "$BASE: no message lists conflicts" messages "$@"
	for topic in $(topics "$BASE"); do
		expect "$BASE: the cover letter of $topic" cover_letter "$topic"
	done
	expect "$BASE: each test has a topic" tested
	if in_cache "$BASE"; then
		lock 9 "tree-$BASE"
		TREE=$CACHE/src/$BASE
		sort -u "$scratch/paths" | pristine_repo "$TREE" "$scratch/repo"
		git -C "$scratch/repo" tag pristine
		expect "$BASE: git am" applies "$@"
		git -C "$scratch/repo" tag patched
		expect "$BASE: the cover letters list what is there" cover_lists
		expect "$BASE: patch -p1, no fuzz, no offset" no_fuzz "$@"
		expect "$BASE: quilt push -a" quilt_push
		for topic in $(topics "$BASE"); do
			expect "$BASE: git am of $topic after what it needs" applies_alone "$topic"
		done
		expect "$BASE: checkpatch --strict" checkpatch
		checked=1
		expect "$BASE: sparse, W=1, kernel-doc, get_abi: nothing new" nothing_new
	else
		skip "$BASE: git am, patch, quilt, checkpatch, sparse, W=1, kernel-doc, get_abi" \
			"no source in the cache (make fetch)"
	fi
	[ "$BASE" != "$layout_base" ] || expect "the folders show the series by file" in_step "$@"
done

say "lint: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] || die lint "make lint found $failed faults"
