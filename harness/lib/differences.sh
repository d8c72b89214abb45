# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# patches/differences.rst: what differs from base to base. Its table is generated and ends
# it. Sourced after base.sh, layout.sh and topics.sh.

differences() {
	for differences_base in "$layout_base" $(bases); do
		[ ! -s "$PATCHES/$differences_base/series" ] || series "$differences_base"
	done | grep -v '/selftests/' | awk '!seen[$0]++' |
		xargs -d '\n' awk -f "$HARNESS/awk/differences.awk"
}

# What stands before the table is written by hand.
differences_file() {
	sed '/^=\{72\} /,$d' "$PATCHES/differences.rst"
	differences
}
