# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# What udevadm monitor shows of block devices. Sourced after lib.sh.

monitor=

# It says that it listens before it does; an event that comes is the proof.
monitor_start() {
	udevadm monitor --kernel --udev --property --subsystem-match=block >"$W/events" 2>&1 &
	monitor=$!
	for _ in $(seq 50); do
		udevadm trigger --settle /dev/vda
		! grep -q '^UDEV' "$W/events" || break
	done
}

# When an event with a mark of its own has come, so have all before it. Leaves a
# line for each event in $W/table:
# SOURCE SEQNUM ACTION NAME DISKSEQ MEDIA_CHANGE SYNTHETIC
monitor_stop() {
	settle
	mark=$(cat /proc/sys/kernel/random/uuid)
	echo "change $mark" >/sys/class/block/vda/uevent
	mkfifo "$W/follow"
	tail -n +1 -f "$W/events" >"$W/follow" 2>&1 &
	follower=$!
	# Once from the kernel, once from udev.
	check "udevadm monitor is up to date" timeout 30 grep -c -m 2 "^SYNTH_UUID=$mark" "$W/follow"
	# a tail that notices the end of its reader is gone by itself
	kill "$follower" 2>/dev/null
	wait "$follower"
	monitor_kill
	awk -v RS= '{
		split("", p)
		for (i = 1; i <= NF; i++)
			if ((at = index($i, "=")) > 0)
				p[substr($i, 1, at - 1)] = substr($i, at + 1)
		if (!("SEQNUM" in p))
			next
		sub(/.*\//, "", p["DEVPATH"])
		print (index($0, "KERNEL[") ? "kernel" : "udev"), p["SEQNUM"], p["ACTION"],
			p["DEVPATH"], (p["DISKSEQ"] == "" ? "none" : p["DISKSEQ"]),
			(p["DISK_MEDIA_CHANGE"] == "" ? 0 : 1), ("SYNTH_UUID" in p)
	}' "$W/events" | sort -k2,2n -s >"$W/table"
}

monitor_kill() {
	[ -n "$monitor" ] || return 0
	kill "$monitor"
	wait "$monitor"
	monitor=
}
