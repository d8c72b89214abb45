# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# What the results of a guest are read with. Sourced after lib.sh.

# count pass|fail|skip RESULTS: how many cases of RESULTS (tap.awk's) that were
count() {
	grep -c "^$1	" "$2" || :
}

# panic_in CONSOLE: the line of the kernel's panic, or nothing
panic_in() {
	tr -d '\r' <"$1" | sed -n 's/.*\(Kernel panic - .*\)/\1/p' | head -n 1
}
