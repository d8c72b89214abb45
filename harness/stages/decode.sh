#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Prints what the kernel reported in $OUT/console.log (the reports that are listed
# in $OUT/reports) with file and line of each address, by the kernel's own
# decode_stacktrace.sh, if the kernel has debug information: with DEBUG=kasan,
# kcsan and lockdep. All of it goes to $OUT/decoded, the first lines are shown.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/arch.sh"
. "$HARNESS/lib/build-dir.sh"

: "${OUT:?}"

# vmlinux must be that of the kernel that ran, which may be one that was kept.
grep -qsx CONFIG_DEBUG_INFO=y "$BUILD/.config" && [ -s "$BUILD/vmlinux" ] &&
	cmp -s "$OUT/kernel" "$BUILD/${arch_image#* }" || exit 0
need addr2line binutils

awk -v lines=80 '
	NR == FNR {
		sub(/^[^\t]*\t/, "")
		wanted[$0]
		leaks += /^unreferenced object /
		next
	}
	{
		sub(/\r$/, "")
		text = $0
		sub(/^\[ *[0-9.]+\](\[ *[TC][0-9]+\])? /, "", text)
	}
	text in wanted { left = lines; delete wanted[text] }
	text ~ /^unreferenced object / && leaks-- > 0 { left = 24 }
	left > 0 { print; left-- }
	text ~ /^---\[ end trace/ { left = 0 }
' "$OUT/reports" "$OUT/console.log" | head -n 400 >"$OUT/encoded"
CROSS_COMPILE=$arch_cross "$TREE/scripts/decode_stacktrace.sh" "$BUILD/vmlinux" "$BUILD/.." \
	<"$OUT/encoded" >"$OUT/decoded" 2>"$OUT/decode.log" ||
	die_log tool "$OUT/decode.log" "decode_stacktrace.sh failed"
head -n 100 "$OUT/decoded" | sed 's/^/    /'
say "  decoded: $OUT/decoded"
