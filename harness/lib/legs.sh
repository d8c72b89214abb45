# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# For commands that compare kernels or ways: several runs of run.sh, of one base,
# in one folder, $LEGS. Sourced after lib.sh and base.sh.

# legs_begin NAME: out/NAME stays what it is until legs_end
legs_begin() {
	legs_name=$1
	legs_done=
	results_dir "$1"
	LEGS=$results_dir
	only_variables "$1"
	unset OUT
	trap 'exit 130' INT TERM HUP
	trap legs_finish EXIT
}

legs_finish() {
	legs_status=$?
	cleanup
	if [ "$legs_status" = 130 ]; then
		echo "diskseq: stopped; $(legs_last)" >&2
	elif [ -z "$legs_done" ] && [ "$legs_status" != 0 ]; then
		echo "  logs: $LEGS; $(legs_last)" >&2
	fi
	exit "$legs_status"
}

legs_last() {
	if [ -e "$RESULTS/$legs_name" ]; then
		echo "the last results stay in out/$legs_name"
	else
		echo "there are no earlier results"
	fi
}

# leg VARIANT NAME NAME=VALUE...: one guest, in $LEGS/NAME. "series" is the work
# tree where there is one. What was fetched first is the base of all of them, and
# what program was built first is that of all.
leg() {
	leg_variant=$1
	leg_out=$LEGS/$2
	shift 2
	mkdir -p "$leg_out"
	if [ "$leg_variant" = series ] && [ -n "${WORKTREE:-}" ]; then
		set -- WORKTREE="$WORKTREE" "$@"
	else
		set -- WORKTREE= "$@"
	fi
	{
		leg_status=0
		env VARIANT="$leg_variant" OUT="$leg_out" "$@" "$HARNESS/commands/run.sh" || leg_status=$?
		echo "$leg_status" >"$leg_out/status"
	} | tee "$leg_out/run.log"
	leg_status=$(cat "$leg_out/status")
	[ "$leg_status" = 0 ] || exit "$leg_status"
	if [ ! -e "$LEGS/what" ]; then
		BASE=$(cat "$leg_out/base")
		export BASE
		! [ -e "$leg_out/program/stress/$GUEST" ] || export PROGRAM="$leg_out/program/stress/$GUEST"
		sed -n "s/^accelerator: \([a-z]*\) .*/$BASE, \1/p" "$leg_out/run.log" >"$LEGS/what"
	fi
}

# The results are those of the last run from now on.
legs_end() {
	legs_done=1
	ln -sfn "${LEGS##*/}" "$RESULTS/$legs_name"
	say "results: out/${LEGS##*/}"
}
