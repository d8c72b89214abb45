# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# For the tests of the Debian guest: TAP, images, and the number as each of its
# readers gives it. Sourced first: . ../guest/lib.sh; a test ends with finish.

set -u
tap_number=0
tap_failed=0
W=$(mktemp -d /var/tmp/diskseq.XXXXXX)
trap 'exit 1' INT TERM HUP
trap 'clean_up; remove_all' EXIT

remove_all() {
	rm -rf --one-file-system "$W"
}

# A test defines its own, for what a failure may leave behind.
clean_up() {
	:
}

ok() {
	tap_number=$((tap_number + 1))
	echo "ok $tap_number - $1"
}

not_ok() {
	tap_number=$((tap_number + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_number - $1"
	sed 's/^/#   /' "$W/said"
}

skip() {
	tap_number=$((tap_number + 1))
	echo "ok $tap_number - $1 # SKIP $2"
}

# check WHAT COMMAND...: passes when the command exits 0
check() {
	check_what=$1
	shift
	if "$@" >"$W/said" 2>&1; then ok "$check_what"; else not_ok "$check_what"; fi
}

# same WHAT EXPECTED GOT
same() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		printf 'expected: %s\ngot:      %s\n' "$2" "$3" >"$W/said"
		not_ok "$1"
	fi
}

# none WHAT FILE: passes when FILE is empty
none() {
	cp "$2" "$W/said"
	if [ -s "$2" ]; then not_ok "$1"; else ok "$1"; fi
}

skip_all() {
	echo "1..0 # SKIP $*"
	exit 4
}

# What there is of disks and mounts: a test leaves as much as it found.
state() {
	losetup --list --noheadings --output NAME,BACK-FILE | sort
	dmsetup ls
	grep '^md' /proc/mdstat
	cut -d' ' -f5 /proc/self/mountinfo | sort
}

finish() {
	clean_up
	trap remove_all EXIT
	settle
	# Whoever opened a disk at an event may close it a moment after.
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		state >"$W/said" 2>&1
		cmp -s "$W/said" "$W/state" && break
		sleep 0.1
	done
	diff "$W/state" "$W/said" >"$W/diff"
	none "nothing is left attached or mounted" "$W/diff"
	none "udev was done whenever it was waited for" "$W/unsettled"
	echo "1..$tap_number"
	[ "$tap_failed" = 0 ]
}

# need_number: DISKSEQ_NO_PROBE=1 goes on without it
need_number() {
	[ -n "${DISKSEQ_NO_PROBE:-}" ] || [ -e /sys/class/block/vda/diskseq ] ||
		skip_all "this kernel has no disk sequence number"
}

# attach [OPTION...] FILE: the loop device that it is attached to now
attach() {
	losetup --find --show "$@"
}

# udev_done: it has nothing to do now. Next to programs that lock disks udev 252
# was seen to sit still with its queue not empty until settle's timeout, and to be
# done at once when it was asked again, as each udevadm settle does when it begins.
# After thousands of events it works for a minute or two; the limit is that which
# it has itself for one event.
udev_done() {
	udev_limit=$(($(date +%s) + 180 * ${SCALE:-1}))
	while [ "$(date +%s)" -lt "$udev_limit" ]; do
		udevadm settle --timeout=2 2>"$W/settle" && return
	done
	cat "$W/settle" >>"$W/unsettled"
}

# Until udev has nothing to do any more. The first time round it may have closed
# a disk that is detached at its last close; the second one sees that event.
settle() {
	udev_done
	udev_done
}

# detach DEVICE: when udev has it open just now, the kernel detaches it when udev
# closes it
detach() {
	losetup -d "$1"
	[ ! -e "/sys/block/${1#/dev/}/loop/backing_file" ] || settle
	[ ! -e "/sys/block/${1#/dev/}/loop/backing_file" ]
}

seq_of() {
	diskseq "$1"
}

sysfs_seq() {
	cat "/sys/block/${1#/dev/}/diskseq"
}

udev_property() {
	udevadm info --query=property --property="$2" --value "$1"
}

udev_seq() {
	udev_property "$1" DISKSEQ
}

: >"$W/unsettled"
settle
state >"$W/state" 2>&1
