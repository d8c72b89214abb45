# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Kernels that are tested as they are (KERNEL=). Sourced after lib.sh.

# image_release FILE: what "uname -r" of this x86 kernel image is, or nothing: where the
# boot protocol puts the letters HdrS (at 514) and the offset of the version (at 526)
image_release() {
	[ "$(dd if="$1" bs=1 skip=514 count=4 2>/dev/null | tr -d '\0')" = HdrS ] || return 0
	image_offset=$(od -An -tu2 -j 526 -N 2 "$1" | tr -d ' ')
	dd if="$1" bs=1 skip=$((image_offset + 512)) count=64 2>/dev/null |
		tr '\0' '\n' | sed -n '1s/[^-+.~A-Za-z0-9].*//p'
}

# stock_kernel: checks KERNEL= and MODULES= as far as that needs nothing to be fetched
stock_kernel() {
	case $KERNEL in
	debian:*)
		case ${KERNEL#debian:} in
		'' | *[!-a-z0-9]*) die kernel "KERNEL=$KERNEL names no suite of Debian's (debian:trixie does)" ;;
		esac
		[ -z "${MODULES:-}" ] || die usage "MODULES= does not go with KERNEL=$KERNEL"
		return ;;
	esac
	if [ ! -f "$KERNEL" ] || [ ! -r "$KERNEL" ]; then
		die kernel "KERNEL=$KERNEL is no file that can be read"
	fi
	release=$(image_release "$KERNEL")
	[ -n "$release" ] || die kernel "KERNEL=$KERNEL is no kernel image for x86 (bzImage)"
	[ -n "${MODULES:-}" ] || return 0
	[ -d "$MODULES/kernel" ] || die kernel "MODULES=$MODULES is no folder of modules (/lib/modules/VERSION)"
	[ "$(basename "$MODULES")" = "$release" ] ||
		die kernel "MODULES=$MODULES are not those of KERNEL=$KERNEL, which is $release"
}

# promise DIRECTORY: writes the verdict on each line of the promise (promise.awk) into
# DIRECTORY/promise
promise() {
	awk -f "$HARNESS/awk/promise.awk" "$HARNESS/tables/contract" "$TOP/doc/defects.rst" \
		"$HARNESS/tables/cases" "$1/results.tap" "$1/results" >"$1/promise"
}
