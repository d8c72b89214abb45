# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# What every stage needs: paths, messages, failures, locks, and the installation of
# missing tools. Sourced first: . "$(dirname "$0")/../lib/lib.sh"

set -eu
umask 022
export LC_ALL=C

: "${HARNESS:=$(cd "$(dirname "$0")/.." && pwd)}"
TOP=$(cd "$HARNESS/.." && pwd)
CACHE=${DISKSEQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/diskseq}
PATCHES=${PATCHES:-$TOP/patches}
SOURCES=${SOURCES:-$HARNESS/tables/sources}
USERLAND=${USERLAND:-$TOP/userland}
STRESS=${STRESS:-$TOP/stress}
# Where the runs leave what they found, each in a folder
RESULTS=${RESULTS:-$TOP/out}
# Where "make tree" puts its trees
WORK=${WORK:-$TOP/work}
export HARNESS TOP CACHE PATCHES SOURCES USERLAND STRESS RESULTS WORK
. "$HARNESS/lib/variables.sh"

# make hands its own variables and flags down; the kernel's make must not see
# those of ours.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES GNUMAKEFLAGS

scratch=
child=
cleanup() {
	# Once: a second Ctrl-C must not stop the cleaning up.
	trap '' INT TERM HUP
	# shellcheck disable=SC2086 # there may be several
	[ -z "$child" ] || kill $child 2>/dev/null || :
	[ -z "$scratch" ] || rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

say() {
	printf '%s\n' "$*"
}

status() {
	awk -v name="$1" '$2 == name { print $1 }' "$HARNESS/tables/status"
}

# die NAME MESSAGE: one line, and the exit status that harness/tables/status gives NAME
die() {
	die_status=$(status "$1")
	shift
	printf 'diskseq: %s\n' "$*" >&2
	exit "${die_status:-1}"
}

# die_log NAME LOG MESSAGE: the same with the end of a log; a full disk has a
# status of its own
die_log() {
	tail -n 20 "$2" | sed 's/^/    /' >&2
	if grep -q 'No space left on device' "$2"; then
		die disk "$3: no space left on the device (log: $2)"
	fi
	die "$1" "$3 (log: $2)"
}

# results_dir WHAT|"": makes a folder for what this call leaves, named in $results_dir;
# out/last leads to it, and old ones go.
results_dir() {
	results_dir=$RESULTS/$(date +%Y%m%d-%H%M%S)-$$${1:+"-$1"}
	make_dir "$results_dir"
	ln -sfn "${results_dir##*/}" "$RESULTS/last"
	prune_out
}

# The twenty newest runs stay, and what a link like out/race leads to.
prune_out() {
	prune_kept=$(find "$RESULTS" -mindepth 1 -maxdepth 1 -type l -exec readlink {} +)
	find "$RESULTS" -mindepth 1 -maxdepth 1 -type d -name '2*-*-*' | sort -r | tail -n +21 |
		while read -r prune_dir; do
			case " $(echo "$prune_kept" | tr '\n' ' ') " in
			*" ${prune_dir##*/} "*) ;;
			*) rm -rf "$prune_dir" ;;
			esac
		done
}

make_dir() {
	mkdir -p "$1" 2>/dev/null || die disk "cannot make $1"
}

# A temporary directory in the cache's own file system, so that its contents
# can be renamed into place. Gone when the script ends, however it ends; what
# kill -9 left behind is swept a day later.
make_scratch() {
	make_dir "$CACHE/tmp"
	find "$CACHE/tmp" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} +
	# The name first: of a mktemp that is killed the directory would stay.
	scratch=$(mktemp -u "$CACHE/tmp/XXXXXX")
	mkdir -m 700 "$scratch"
}

# lock FD NAME: one at a time; the lock ends with the process
lock() {
	make_dir "$CACHE/lock"
	eval "exec $1>\"\$CACHE/lock/\$2\""
	wait_for_lock "$@"
}

wait_for_lock() {
	flock -n "$1" && return
	say "waiting for another run that uses $2" >&2
	flock "$1"
}

# lock_apt: as 7. It is the machine's, whose apt is the same for every cache; apt's own
# lock fails at once.
lock_apt() {
	[ -d /var/lib/apt ] || die tool "no apt here: /var/lib/apt does not exist"
	exec 7</var/lib/apt
	wait_for_lock 7 apt
}

# room MEGABYTES DIRECTORY: fail early rather than half-way
room() {
	make_dir "$2"
	room_free=$(df -Pm "$2" | awk 'NR == 2 { print $4 }')
	[ "$room_free" -ge "$1" ] ||
		die disk "no space left: $2 has $room_free MB free, $1 MB are needed"
}

# need WHAT PACKAGE ...: WHAT is a command or an absolute path
need() {
	need_packages=
	while [ $# -gt 1 ]; do
		case $1 in
		/*)	[ -e "$1" ] ;;
		*)	command -v "$1" >/dev/null ;;
		esac || case " $need_packages " in
		*" $2 "*) ;;
		*) need_packages="$need_packages $2" ;;
		esac
		shift 2
	done
	[ -z "$need_packages" ] || install_packages
}

install_packages() {
	[ -z "${NO_INSTALL:-}" ] ||
		die tool "missing Debian packages:$need_packages (NO_INSTALL is set: not installed)"
	command -v apt-get >/dev/null ||
		die tool "missing, and no apt-get here to install it:$need_packages"
	need_root=
	if [ "$(id -u)" != 0 ]; then
		need_root='sudo -n'
		sudo -n true 2>/dev/null ||
			die tool "missing Debian packages:$need_packages (not root, and no sudo without a password)"
	fi
	lock_apt
	# to stderr: a program may read what the caller prints
	say "installing Debian packages:$need_packages" >&2
	make_dir "$CACHE"
	install_now >"$CACHE/apt.log" 2>&1 </dev/null 7<&- ||
		die_log tool "$CACHE/apt.log" "apt-get cannot install$need_packages"
	exec 7>&-
}

# An hour's lists are new enough for the next package.
install_now() {
	if [ -z "$(find "$CACHE/apt.updated" -mmin -60 2>/dev/null)" ]; then
		$need_root apt-get update || return
		: >"$CACHE/apt.updated"
	fi
	# The names are words: no quotes.
	# shellcheck disable=SC2086
	$need_root env DEBIAN_FRONTEND=noninteractive apt-get \
		-o DPkg::Lock::Timeout=300 install -y --no-remove --no-install-recommends $need_packages
}

# progress LABEL LOG COMMAND...: runs it into LOG, and shows that it goes on.
# The ticker is the one in the background, so that Ctrl-C reaches the command;
# it outlives a kill by one sleep, which must hold neither lock nor pipe.
progress() {
	progress_label=$1
	progress_log=$2
	shift 2
	: >"$progress_log"
	if [ -t 1 ]; then
		progress_every=2 progress_end='\r'
	else
		progress_every=30 progress_end='\n'
	fi
	(
		trap - EXIT
		progress_begin=$(date +%s)
		while sleep "$progress_every" >/dev/null 2>&1 && kill -0 "$$" 2>/dev/null; do
			# shellcheck disable=SC2059
			printf "  %s: %d lines of log, %d s   $progress_end" "$progress_label" \
				"$(wc -l <"$progress_log")" $(($(date +%s) - progress_begin))
		done
	) 7>&- 8>&- 9>&- &
	child=$!
	progress_status=0
	"$@" >>"$progress_log" 2>&1 || progress_status=$?
	# dash can lose any other signal to a subshell that it has just begun.
	kill -KILL "$child" 2>/dev/null || :
	wait "$child" 2>/dev/null || :
	child=
	[ ! -t 1 ] || printf '\033[K'
	return "$progress_status"
}

# stage NAME COMMAND...: runs it and notes the time that it took
stage() {
	stage_name=$1
	shift
	stage_begin=$(date +%s%N)
	stage_status=0
	"$@" || stage_status=$?
	stage_end=$(date +%s%N)
	awk -v name="$stage_name" -v ns=$((stage_end - stage_begin)) \
		'BEGIN { printf "%-10s %7.1f s\n", name, ns / 1e9 }' >>"$OUT/times"
	[ "$stage_status" = 0 ] || exit "$stage_status"
}

# The kernel's own make, in an environment that holds nothing of ours.
# The fixed date and names make equal sources give equal kernels. No CCACHE_DEPEND, though
# it is faster: ccache would not see that piggy.S includes the compressed kernel, and
# would give an old one of the same size for it.
kmake() {
	env -i PATH="$PATH" HOME="$HOME" LC_ALL=C TMPDIR="${TMPDIR:-/tmp}" \
		CCACHE_DIR="$CACHE/ccache" CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=2G \
		KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=diskseq \
		KBUILD_BUILD_HOST=diskseq \
		make -C "$TREE" "$@" </dev/null
}

variables run
