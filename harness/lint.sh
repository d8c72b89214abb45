#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Looks at the project as it stands, without booting anything: the scripts, and
# for each base the patches. What needs a base's source is skipped, and said so,
# where the cache has none. The last line counts.

. "$(dirname "$0")/lib.sh"
. "$HARNESS/base.sh"
. "$HARNESS/repo.sh"
. "$HARNESS/layout.sh"

need git git shellcheck shellcheck sparse sparse perl perl patch patch \
	flex flex bison bison bc bc ccache ccache /usr/include/libelf.h libelf-dev
make_scratch
OUT=${OUT:-$scratch}
export OUT
passed=0 failed=0 skipped=0

# expect WHAT COMMAND...: it passes when it exits 0; what it says is shown when
# it does not
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

# Every file says its license; what is inside a diff belongs to its file.
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
		xargs -0 shellcheck -x -P SCRIPTDIR -e SC2016 harness/lib.sh tests/lib.sh userland/guest/lib.sh
}

init_builds() {
	gcc -static -O2 -Wall -Wextra -Werror -o "$scratch/init" "$HARNESS"/init*.c
}

# The patches name the blobs that they start from and end at. Those must form a
# chain from the base's true files; that needs no source where harness/blobs
# knows them. Leaves "blob path" of the ends in $scratch/ends.
blob_chain() {
	awk -v base="$BASE" -v src="$CACHE/src/$BASE" -v ends="$scratch/ends" '
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
			if (id[1] !~ /^0+$/ && at[path] != id[1]) {
				print FILENAME ": " path ": starts from " id[1] ", not from " at[path]
				bad = 1
			}
			at[path] = id[2]
			end[path] = id[2]
		}
		END { for (path in end) print end[path], path >ends; exit bad }
	' "$HARNESS/blobs" "$@"
}

series_file() {
	(cd "$PATCHES/$BASE" && printf '%s\n' 0*.patch) | diff - "$PATCHES/$BASE/series"
}

# Applies with patch(1) too, at the very lines that it names.
no_fuzz() {
	sort -u "$scratch/paths" | pristine_repo "$CACHE/src/$BASE" "$scratch/plain"
	for patch; do
		patch -d "$scratch/plain" -p1 -F0 --no-backup-if-mismatch <"$patch" || return
	done >"$scratch/patch.log"
	! grep -E 'offset|fuzz' "$scratch/patch.log"
}

applies() {
	git -C "$scratch/repo" am -q "$@" || return
	while read -r blob path; do
		[ "$(git -C "$scratch/repo" rev-parse "HEAD:$path")" = "$blob" ] ||
			{ echo "$path does not become what the patches say"; return 1; }
	done <"$scratch/ends"
}

checkpatch() {
	# MAINTAINERS gets its entry from MAINTAINERS-snippet.
	cd "$TREE" && perl scripts/checkpatch.pl --strict --quiet --summary-file --show-types \
		--ignore FILE_PATH_CHANGES "$@"
}

# Without the source it is the ids and the lines that must agree, with it every
# byte.
in_step() {
	mkdir -p "$scratch/layout" "$scratch/shown"
	for dir in $layout_dirs; do
		[ ! -d "$TOP/$dir" ] || cp -r "$TOP/$dir" "$scratch/shown/"
	done
	if [ -d "$scratch/repo/.git" ]; then
		lay_out "$scratch/repo" "$(git -C "$scratch/repo" rev-list --max-parents=0 HEAD)" \
			HEAD "$scratch/layout"
		diff -r "$scratch/layout" "$scratch/shown"
		return
	fi
	find "$scratch/shown" -name '*.diff' >"$scratch/diffs"
	# shellcheck disable=SC2046 # paths of the kernel's have no spaces
	awk -f "$HARNESS/netlines.awk" "$@" sign=-1 $(cat "$scratch/diffs") || return
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
	if ! { VARIANT=$variant "$HARNESS/tree.sh" && "$HARNESS/config.sh"; } >"$scratch/log" 2>&1; then
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

for BASE in $(bases); do
	export BASE
	set -- "$PATCHES/$BASE"/0*.patch
	if [ ! -f "$1" ]; then
		skip "$BASE" "no patches"
		continue
	fi
	rm -rf "$scratch/repo" "$scratch/plain"
	touched_paths "$@" >"$scratch/paths"
	expect "$BASE: the patches start from the true files" blob_chain "$@"
	expect "$BASE: the series file lists the patches" series_file
	if in_cache "$BASE"; then
		lock 9 "tree-$BASE"
		TREE=$CACHE/src/$BASE
		sort -u "$scratch/paths" | pristine_repo "$TREE" "$scratch/repo"
		expect "$BASE: git am" applies "$@"
		expect "$BASE: patch -p1, no fuzz, no offset" no_fuzz "$@"
		for patch; do
			expect "$BASE: checkpatch --strict ${patch##*/}" checkpatch "$patch"
		done
		expect "$BASE: sparse, W=1, kernel-doc, get_abi: nothing new" nothing_new
	else
		skip "$BASE: git am, patch, checkpatch, sparse, W=1, kernel-doc, get_abi" \
			"no source in the cache (make fetch)"
	fi
	[ "$BASE" != "$layout_base" ] || expect "the folders show the series by file" in_step "$@"
done

say "lint: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] || die lint "make lint found $failed faults"
