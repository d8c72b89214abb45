#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Boots the guests that share the tests of $OUT/tests, side by side: each in a folder
# of its own, $OUT/guest-N, by STAGE (boot.sh or guests.sh). Leaves in $OUT what STAGE leaves
# of a single one: one results.tap of all programs, the consoles one after the other, the
# results if STAGE has read them, and the times of the guest that took longest.
# Usage: stages/spread.sh STAGE

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/arch.sh"

: "${OUT:?}"
stage=$HARNESS/stages/$1
# Installed here, not in boot.sh by each guest
need "${arch_qemu% *}" "${arch_qemu#* }"

# A debug kernel needs its memory and its time limits for itself.
if [ -z "${GUESTS:-}" ]; then
	# One more than processors: the tests wait for much of their time.
	GUESTS=$(($(nproc) + 1))
	[ "$GUESTS" -le 3 ] || GUESTS=3
	[ -z "${DEBUG:-}" ] || GUESTS=1
fi
tests=$(wc -l <"$OUT/tests")
[ "$GUESTS" -le "$tests" ] || GUESTS=$tests

rm -f "$OUT/verdict"
[ "$GUESTS" -gt 1 ] || exec "$stage"

awk -v guests="$GUESTS" -f "$HARNESS/awk/spread.awk" "$HARNESS/tables/durations" "$OUT/tests" >"$OUT/spread"
make_scratch
mkfifo "$scratch/tap"
awk -v guests="$GUESTS" -v plan=$((tests * ${REPEAT:-1})) -v tap="$OUT/results.tap" -v V="${V:-}" \
	-f "$HARNESS/awk/join.awk" <"$scratch/tap" &
join=$!
exec 3>"$scratch/tap"
for number in $(seq "$GUESTS"); do
	guest=$OUT/guest-$number
	mkdir "$guest"
	# A guest may end before it writes these.
	touch "$guest/console.log" "$guest/commands" "$guest/times" "$guest/results"
	ln -s ../kernel ../initramfs.cpio "$guest/"
	sed -n "s/^$number //p" "$OUT/spread" >"$guest/tests"
	OUT=$guest TEST=$(paste -s -d , "$guest/tests") GUEST_NUMBER=$number \
		"$stage" >&3 3>&- 2>"$guest/errors" &
	child="$child $!"
done
exec 3>&-

# The first failure is reported. The others usually have the same reason.
status=0
number=0
for pid in $child; do
	number=$((number + 1))
	guest_status=0
	wait "$pid" || guest_status=$?
	[ "$status" = 0 ] || continue
	status=$guest_status
	cat "$OUT/guest-$number/errors" >&2
done
child=
wait "$join"

cat "$OUT"/guest-*/console.log >"$OUT/console.log"
[ "$1" = boot.sh ] || cat "$OUT"/guest-*/results >"$OUT/results"
cat "$OUT"/guest-*/commands >>"$OUT/commands"
cat "$OUT"/guest-*/times | awk '
	!($1 in takes) { order[++n] = $1 }
	$2 >= takes[$1] { takes[$1] = $2; line[$1] = $0 }
	END { for (i = 1; i <= n; i++) print line[order[i]] }' >>"$OUT/times"
exit "$status"
