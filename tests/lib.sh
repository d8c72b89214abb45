# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# For the harness's own tests: TAP out, and a cache, fake kernels and a fake
# QEMU to play with. Sourced first: . "$(dirname "$0")/lib.sh"

TESTS=$(cd "$(dirname "$0")" && pwd)
HARNESS=$TESTS/../harness
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
trap 'exit 130' INT TERM HUP
# shellcheck disable=SC2046 # words
unset $(awk -F '\t' '!/^#/ { print $1 }' "$HARNESS/tables/variables") \
	OUT SOURCES CONFIG WORK HOOK SHELL_ONLY MAKEFLAGS PROGRAM
number=0

ok() {
	number=$((number + 1))
	echo "ok $number - $1"
}

not_ok() {
	number=$((number + 1))
	echo "not ok $number - $1"
	sed 's/^/#   /' "$T/said" >&2
}

# check WHAT COMMAND...: passes when the command exits 0
check() {
	check_what=$1
	shift
	if "$@" >"$T/said" 2>&1; then ok "$check_what"; else not_ok "$check_what"; fi
}

# said WHAT REGEX: the last command of check or dies said that
said() {
	if grep -qE -e "$2" "$T/said"; then ok "$1"; else not_ok "$1"; fi
}

# dies WHAT STATUS WORD COMMAND...: the command exits with the status that
# harness/tables/status gives that name ("-" is 0) and says one "diskseq: " line, which
# matches WORD: the user's own value, variable or file, or "." for anything. Only ten
# messages, in results.t and usage.t, are to have these very words.
dies() {
	dies_what=$1
	dies_status=$(awk -v n="$2" '$2 == n { print $1 }' "$HARNESS/tables/status")
	dies_word=$3
	shift 3
	dies_got=0
	"$@" >"$T/said" 2>&1 </dev/null || dies_got=$?
	grep '^diskseq: ' "$T/said" >"$T/line" || :
	echo "(status $dies_got, expected ${dies_status:-0}: $dies_word)" >>"$T/said"
	if [ "$dies_got" = "${dies_status:-0}" ] && [ "$(wc -l <"$T/line")" = 1 ] &&
	   grep -qE -e "$dies_word" "$T/line"; then
		ok "$dies_what"
	else
		not_ok "$dies_what"
	fi
}

same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }; }

# wants_numbers COMMAND NAME...: it refuses 0 and words
wants_numbers() {
	wants_numbers=$1
	shift
	for wants_name; do
		dies "$wants_name=0" usage "$wants_name=" "$wants_numbers" "$wants_name=0"
		dies "$wants_name=many" usage "$wants_name=" "$wants_numbers" "$wants_name=many"
	done
}

# interrupted FILE COMMAND...: the command, and what it has started, is stopped when FILE
# has something in it. It has to exit so and to say it in one "diskseq: " line.
interrupted() {
	interrupted_file=$1
	shift
	setsid "$@" >"$T/stopped" 2>&1 &
	interrupted_pid=$!
	for _ in $(seq 200); do
		[ ! -s "$interrupted_file" ] || break
		sleep 0.1
	done
	kill -s TERM -- "-$interrupted_pid"
	interrupted_status=0
	wait "$interrupted_pid" || interrupted_status=$?
	check "interrupted: its status" same "$interrupted_status" 130
	check "interrupted: one line says so" same "$(grep -c '^diskseq: ' "$T/stopped")" 1
}

finish() {
	echo "1..$number"
}

# A kernel of a few files: its makefile does what the harness asks of kbuild and
# kselftest, in no time. fake_kernel DIR [SUBLEVEL [PATCHLEVEL]]
fake_kernel() {
	mkdir -p "$1/block" "$1/include/uapi/linux" "$1/tools/testing/selftests/block" "$1/usr"
	# writes nothing
	echo 'int main(void) { return 0; }' >"$1/usr/gen_init_cpio.c"
	: >"$1/Kbuild"
	echo '#define BLKTHING' >"$1/include/uapi/linux/fs.h"
	printf 'one\ntwo\nthree\nfour\nfive\n' >"$1/block/genhd.c"
	echo 'not touched' >"$1/block/other.c"
	printf 'VERSION = 5\nPATCHLEVEL = %s\nSUBLEVEL = %s\nEXTRAVERSION =\n' \
		"${3:-14}" "${2:-0}" >"$1/Makefile"
	cat >>"$1/Makefile" <<-'END'
	.RECIPEPREFIX = >
	allnoconfig:
	> grep -v CONFIG_NO_SUCH_THING $(KCONFIG_ALLCONFIG) >$(O)/.config
	bzImage:
	> ! grep '#error' block/genhd.c
	> ! grep 'disk is full' block/genhd.c || { echo 'cc: No space left on device'; exit 1; }
	> mkdir -p $(O)/arch/x86/boot $(O)/usr
	> cp block/genhd.c $(O)/arch/x86/boot/bzImage
	> printf '#!/bin/sh\ncat "$$1"\n' >$(O)/usr/gen_init_cpio
	> chmod +x $(O)/usr/gen_init_cpio
	> echo built >>$(O)/builds
	END
	cat >"$1/tools/testing/selftests/Makefile" <<-'END'
	.RECIPEPREFIX = >
	install:
	> mkdir -p $(KSFT_INSTALL_PATH)/block
	> echo block:fake >$(KSFT_INSTALL_PATH)/kselftest-list.txt
	END
	printf 'emit_tests:\n\techo block:fake\n' >"$1/tools/testing/selftests/block/Makefile"
}

# fake_patch NUMBER FILE FROM TO [TOPIC]: a mail that changes one line of a fake kernel
# (the first that is FROM), after the patches made before it
fake_patch() {
	if [ ! -d "$T/author" ]; then
		fake_kernel "$T/author"
		author init -q
		author add -A
		author commit -qm base
	fi
	sed -i "s/^$3\$/$4/" "$T/author/$2"
	author commit -qam "patch $1"
	author format-patch -q --full-index --zero-commit --no-signature \
		--start-number "$1" -1 -o "$PATCHES/v5.14/${5:-1-fake}"
	fake_series
}

# The series file that goes with the patches
fake_series() {
	(cd "$PATCHES" && printf '%s\n' v5.14/*/0*.patch selftests/0*.patch >v5.14/series)
}

# fake_unpatch NUMBER: without that patch
fake_unpatch() {
	rm "$PATCHES"/v5.14/*/"000$1"-*
	fake_series
}

author() {
	git -C "$T/author" -c user.name=Author -c user.email=author@localhost "$@"
}

# A cache and patches of our own, with a fake v5.14 that has one patch. The real
# cache is not to see it.
fake_world() {
	unset DISKSEQ_CACHE
	export XDG_CACHE_HOME="$T/cache" PATCHES="$T/patches"
	mkdir -p "$PATCHES/v5.14" "$PATCHES/selftests"
	cat >"$PATCHES/selftests/0001-selftests.patch" <<-'END'
	From: Author <author@localhost>
	Subject: selftests
	---
	diff --git a/tools/testing/selftests/block/config b/tools/testing/selftests/block/config
	new file mode 100644
	--- /dev/null
	+++ b/tools/testing/selftests/block/config
	@@ -0,0 +1 @@
	+CONFIG_FAKE=y
	END
	fake_kernel "$T/ksrc"
	fake_patch 1 block/genhd.c two TWO
	export OUT="$T/out" RESULTS="$T/results"
}

# soon COMMAND...: it succeeds within ten seconds
soon() { for _ in $(seq 100); do ! "$@" || return 0; sleep 0.1; done; return 1; }

# fake_qemu NAME [hang|STATUS]: QEMU that leaves what tests/canned/NAME holds
# instead of booting
fake_qemu() {
	export CANNED="$TESTS/canned/$1" QEMU="$TESTS/fake-qemu" FAKE_END="${2:-0}"
}
