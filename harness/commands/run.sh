#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The main job: fetch, patch, configure, build, boot, test, report.
# Usage: harness/commands/run.sh [NAME=VALUE...], with the variables of "make help-variables".
# The exit status is one of harness/tables/status.

. "$(dirname "$0")/../lib/args.sh"
. "$HARNESS/lib/arch.sh"
. "$HARNESS/lib/topics.sh"
. "$HARNESS/lib/suites.sh"
. "$HARNESS/lib/stock.sh"

# All errors that can be found now are reported before anything long begins.
variables run
[ -z "${BASE:-}" ] || known_base "$BASE"
for name in $(echo "${DEBUG:-}" | tr , ' '); do
	[ -f "$HARNESS/config/debug-$name.config" ] ||
		die usage "unknown DEBUG '$name' (there are: $(find "$HARNESS/config" -name 'debug-*' |
			sed 's/.*debug-\(.*\).config/\1/' | sort | tr '\n' ' '))"
done
if [ -n "${TOPIC:-}" ]; then
	[ "${WORKTREE:-}$VARIANT" = series ] ||
		die usage "TOPIC= goes neither with WORKTREE= nor with VARIANT="
	known_topics "${BASE:-$(bases | cut -d' ' -f1)}" "$TOPIC"
	VARIANT=topic-$TOPIC
fi
case $VARIANT in
topic-* | series | base | mutant-*) ;;
*) die usage "unknown VARIANT '$VARIANT' (there are: series base mutant-NAME)" ;;
esac
# Debian takes its time, and a debug kernel on a busy machine more than that.
[ -z "${DEBUG:-}" ] || export BOOT_TIMEOUT="${BOOT_TIMEOUT:-600}"
[ "$GUEST" = kselftest ] || export BOOT_TIMEOUT="${BOOT_TIMEOUT:-180}"
case $GUEST in
kselftest) unset SUITE ;;
userland) choose_suite ;;
# The fast guest, with a program of stress/ in place of the selftests.
*) [ -f "$STRESS/$GUEST.c" ] || die usage "unknown GUEST '$GUEST' (there are: kselftest userland)"
	unset SUITE ;;
esac
case $GUEST,$ARCH,${DEBUG:-}, in
*,x86_64,*) ;;
*,gcov,*) die usage "DEBUG=gcov is for x86_64 only, not for ARCH=$ARCH" ;;
kselftest,*) ;;
*) die usage "GUEST=$GUEST is for x86_64 only, not for ARCH=$ARCH" ;;
esac
if [ -n "${WORKTREE:-}" ]; then
	[ -f "$WORKTREE/Kbuild" ] || die usage "WORKTREE=$WORKTREE is no kernel tree"
	WORKTREE=$(cd "$WORKTREE" && pwd)
	export WORKTREE
	worktree_base
fi
if [ -n "${KERNEL:-}" ]; then
	[ "$GUEST-$ARCH-${DEBUG:-}-${TOPIC:-}-$VARIANT" = kselftest-x86_64---series ] ||
		die usage "KERNEL= goes with none of VARIANT=, TOPIC=, DEBUG=, GUEST= and ARCH="
	stock_kernel
	# The selftests are all that is taken from patches/.
	VARIANT=base
	export BOOT_TIMEOUT="${BOOT_TIMEOUT:-180}" TEST_TIMEOUT="${TEST_TIMEOUT:-240}" \
		DISKSEQ_PATIENCE="${DISKSEQ_PATIENCE:-5000}"
elif [ -n "${MODULES:-}" ]; then
	die usage "MODULES= is for KERNEL= only"
fi
[ "$(uname -m)" = x86_64 ] || die usage "this runs on x86_64 only, not on $(uname -m)"

# The command that does the same again.
repeat="make ${GOAL:-run}"
for name in $(variable_names all); do
	eval "value=\${$name:-}"
	[ -n "$value" ] || continue
	case $name=$value in
	NO_INSTALL=* | V=* | BOOT_TIMEOUT=* | TEST_TIMEOUT=* | DISKSEQ_PATIENCE=*) ;;	# nothing of what is tested
	WAY=all | ARCH=x86_64 | VARIANT=series | VARIANT=topic-* | GUEST=kselftest | "GUEST=${GOAL:-}") ;;
	VARIANT=base) [ "${GOAL:-}" = race ] || [ -n "${KERNEL:-}" ] || repeat="$repeat VARIANT=base" ;;
	*)	repeat="$repeat $name='$value'" ;;
	esac
done

if [ -z "${OUT:-}" ]; then
	results_dir ''
	OUT=$results_dir
fi
mkdir -p "$OUT"
: >"$OUT/times"
: >"$OUT/commands"
rm -rf "$OUT"/guest-* "$OUT/guests" "$OUT/modules" "$OUT/results" "$OUT"/promise*
unset FROM GUEST_NUMBER
[ -z "${WORKTREE:-}" ] || echo "$BASE" >"$OUT/base"
export OUT VARIANT

finish() {
	finish_status=$?
	cleanup
	# Away with what is left of a progress line.
	[ ! -t 1 ] || printf '\r\033[K'
	if [ -s "$OUT/times" ]; then
		say "time of each stage:"
		sed 's/^/  /' "$OUT/times"
	fi
	if [ "$finish_status" != 0 ]; then
		echo "  status $finish_status; logs: $OUT; again: $repeat" >&2
	fi
	exit "$finish_status"
}
trap finish EXIT

if [ -z "${WORKTREE:-}" ]; then
	stage fetch "$HARNESS/stages/fetch.sh"
	BASE=$(cat "$OUT/base")
	export BASE
fi
if [ -n "${TOPIC:-}" ] && [ -z "${TEST:-}" ]; then
	known_topics "$BASE" "$TOPIC"
	TEST=$(topic_tests "$BASE" "$TOPIC")
	export TEST
fi
"$HARNESS/stages/kernel.sh"
if [ -n "${KERNEL:-}" ] && [ -z "${SHELL_ONLY:-}" ]; then
	"$HARNESS/stages/spread.sh" guests.sh
	"$HARNESS/stages/promise.sh"
	exit 0
fi
case $GUEST,${SHELL_ONLY:-} in
kselftest,) "$HARNESS/stages/spread.sh" boot.sh ;;
*) "$HARNESS/stages/boot.sh" ;;
esac
[ -z "${SHELL_ONLY:-}" ] || exit 0
"$HARNESS/stages/results.sh"
case ,${DEBUG:-}, in
*,gcov,*) "$HARNESS/stages/coverage.sh" ;;
esac
