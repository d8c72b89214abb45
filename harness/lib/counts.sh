# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# How make check counts: each verdict is a line of $CHECK/counts, and what failed is
# listed in $CHECK/failures. Sourced after lib.sh.

head_line() {
	say ""
	say "== $*"
}

# add PASSED FAILED SKIPPED
add() {
	echo "$1 $2 $3" >>"$CHECK/counts"
}

# failures PREFIX: for the list at the end, one a line of the input
failures() {
	sed "s|^|$1|" >>"$CHECK/failures"
}

verdict() {
	if [ "$1" = 0 ]; then
		say "ok      $2"
		add 1 0 0
	else
		say "not ok  $2"
		echo "$2" | failures ''
		add 0 1 0
	fi
}

# What a command says goes to the terminal and to a log; its status is kept.
logged() {
	log=$1
	shift
	{ logged_status=0; "$@" 2>&1 || logged_status=$?; echo "$logged_status" >"$log.status"; } |
		tee "$log"
	return "$(cat "$log.status")"
}

# prove counts tests; a script that broke down counts as one failure.
own_tests() {
	log=$CHECK/$1.log
	shift
	status=0
	logged "$log" prove --timer -j "$(nproc)" "$@" || status=$?
	tests=$(sed -n 's/^Files=.*Tests=\([0-9]*\),.*/\1/p' "$log")
	bad=$(sed -n 's/^  Failed tests*:  *//p' "$log" | tr -c '0-9-\n' '\n' |
		awk -F- 'NF { n += NF == 2 ? $2 - $1 + 1 : 1 } END { print n + 0 }')
	[ "$status" = 0 ] || [ "$bad" != 0 ] || bad=1
	grep -E '^ *(Failed tests?:|/.*\(Wstat)' "$log" | failures "${log##*/}: "
	add $((${tests:-0} - bad)) "$bad" 0
}
