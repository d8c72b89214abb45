#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Boots $OUT/kernel in QEMU, with $OUT/initramfs.cpio or on $OUT/root.ext4. The
# tests' TAP comes out by a port of its own into $OUT/results.tap, the console
# into $OUT/console.log. SHELL_ONLY=1 gives a shell on this terminal instead.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/arch.sh"

: "${OUT:?}"

need "${arch_qemu% *}" "${arch_qemu#* }"
QEMU=${QEMU:-${arch_qemu% *}}

# KVM under a hypervisor that does not offer vmx or svm is there and slower than
# none: ask for both. (The harness's tests look at other files.)
kvm=${KVM_DEVICE:-/dev/kvm}
case ${ACCEL:-} in
'')	if [ "$arch_machine" != pc ]; then
		accel=tcg why="$ARCH is not this machine's"
	elif [ ! -e "$kvm" ]; then
		accel=tcg why="there is no $kvm"
	elif [ ! -r "$kvm" ] || [ ! -w "$kvm" ]; then
		accel=tcg why="$kvm may not be opened"
	elif ! grep -qwE 'vmx|svm' "${CPUINFO:-/proc/cpuinfo}"; then
		accel=tcg why="$kvm is there, but the processor shows neither vmx nor svm"
	else
		accel=kvm why="$kvm can be used"
	fi ;;
tcg)	accel=tcg why="ACCEL=tcg" ;;
kvm)	accel=kvm why="ACCEL=kvm"
	if [ "$arch_machine" != pc ]; then
		die usage "ACCEL=kvm, but ARCH=$ARCH is not this machine's"
	elif [ ! -r "$kvm" ] || [ ! -w "$kvm" ]; then
		die qemu "ACCEL=kvm, but $kvm cannot be opened"
	fi ;;
*)	die usage "unknown ACCEL '$ACCEL' (there are: kvm tcg)" ;;
esac
say "accelerator: $accel ($why)"
case $accel in
kvm)	cpu=host scale=1 ;;
tcg)	cpu=$arch_cpu scale=2 ;;
esac
# Under emulation each byte of "rep movsb" is an instruction: copy by words there,
# or nothing else is seen of a read.
[ "$GUEST-$accel" != bench-tcg ] || cpu=max,-erms
[ -z "${DEBUG:-}" ] || scale=$((scale * 3))

# Words without a dot that the kernel does not know become init's environment.
append="console=$arch_console${arch_append:+ $arch_append} panic=-1 oops=panic"
append="$append loop.max_loop=0 null_blk.nr_devices=0 brd.rd_nr=0 zram.num_devices=0 nbd.nbds_max=0"
# In a kernel as it is, what hangs ends its guest; mitigations only cost time here.
[ -z "${KERNEL:-}" ] || append="$append FRESH=1 mitigations=off"
append="$append scsi_debug.add_host=0 scsi_debug.removable=1 SCALE=$scale"
for name in $(variable_names guest) RACE_WAY ICOUNT HOOK DISKSEQ_NO_PROBE SHELL_ONLY FROM; do
	eval "value=\${$name:-}"
	[ -z "$value" ] || append="$append $name=$(echo "$value" | tr ' ' ,)"
done

# In a list of options a comma ends a value; two are one that is part of it.
option_out=$(printf '%s\n' "$OUT" | sed 's/,/,,/g')

# The image serves many runs: what a guest writes is gone with it.
case $GUEST in
userland)
	unit=diskseq.target
	[ -z "${SHELL_ONLY:-}" ] || unit=diskseq-shell.service
	append="$append root=/dev/vda rootfstype=ext4 rw systemd.unit=$unit"
	set -- -m 1024 -drive "file=$option_out/root.ext4,format=raw,if=virtio,snapshot=on" \
		-drive "file=$option_out/tests.tar,format=raw,if=virtio,readonly=on" ;;
soak)	# thousands of disks
	set -- -m 2048 -initrd "$OUT/initramfs.cpio" ;;
*)	memory=512
	case ,${DEBUG:-}, in
	*,kasan,*) # What was freed stays a while, and leaks are tracked; ACPI's interpreter
		# is so slow then that it gives up (30 s) before interrupts are routed.
		memory=1536
		append="$append pci=noacpi" ;;
	esac
	[ -z "${KERNEL:-}" ] || memory=1024	# a distribution's kernel is a large one
	set -- -m "$memory" -initrd "$OUT/initramfs.cpio" ;;
esac

set -- "$QEMU" -machine "$arch_machine" -accel "$accel" -cpu "$cpu" -smp "${SMP:-2}" -nodefaults \
	-display none -no-reboot "$@" -device virtio-serial \
	-kernel "$OUT/kernel" -append "$append${APPEND:+ $APPEND}"
# Only for tests that change media: a drive more takes a boot longer. They want
# all the drives that a PC has.
if [ "$GUEST" = kselftest ] && [ "$arch_machine" = pc ] &&
   { [ -n "${SHELL_ONLY:-}" ] ||
     grep -qsxE 'diskseq_(cdrom|cdrom_command|stick|floppy)_test' "$OUT/tests"; }; then
	. "$HARNESS/lib/media.sh"
fi

# Time is what was executed: 1 ns an instruction, and no waiting for the real one.
[ -z "${ICOUNT:-}" ] || set -- "$@" -icount shift=0,sleep=off

if [ -n "${SHELL_ONLY:-}" ]; then
	tests=/kselftest
	[ "$GUEST" = kselftest ] || tests=/run/diskseq/tests
	[ "$ARCH" = x86_64 ] || die usage "a shell is there for x86_64 only, not for ARCH=$ARCH"
	say "a shell in the guest: the tests are in $tests, 'exit' ends it, Ctrl-A X kills it"
	"$@" -chardev stdio,id=console,mux=on,signal=off -serial chardev:console \
		-mon chardev=console || die qemu "QEMU failed"
	exit 0
fi

case $ARCH in
s390x)	set -- "$@" -chardev "file,id=console,path=$option_out/console.log" -device sclpconsole,chardev=console ;;
*)	set -- "$@" -serial "file:$OUT/console.log" ;;
esac
set -- "$@" \
	-chardev "file,id=tap,path=$option_out/results.tap" \
	-device virtserialport,chardev=tap,name=diskseq.tap
case ,${DEBUG:-}, in
*,gcov,*)
	set -- "$@" -chardev "file,id=gcov,path=$option_out/coverage.tar" \
		-device virtserialport,chardev=gcov,name=diskseq.gcov ;;
esac
for word; do
	case $word in
	*[\ \(\)\*\;]*) printf "'%s' " "$word" ;;
	*) printf '%s ' "$word" ;;
	esac
done >>"$OUT/commands"
echo >>"$OUT/commands"

milliseconds() {
	echo $(($(date +%s%N) / 1000000))
}

# show FROM TO: these lines of the tests' TAP. Those of guests side by side (spread.sh)
# go into one pipe, so each has its guest's number and is written by itself.
show() {
	if [ -n "${GUEST_NUMBER:-}" ]; then
		awk -v from="$1" -v to="$2" -v guest="$GUEST_NUMBER" \
			'NR >= from && NR <= to { print guest, $0; fflush() }' "$OUT/results.tap"
	elif [ -n "${V:-}" ]; then
		sed -n "$1,$2p" "$OUT/results.tap"
	else
		sed -n "$1,$2p" "$OUT/results.tap" | grep -v '^# #  ' || :
	fi
}

rm -f "$OUT/verdict"
: >"$OUT/results.tap"
: >"$OUT/console.log"
begin=$(milliseconds)
"$@" </dev/null >"$OUT/qemu.log" 2>&1 &
child=$!

boot_limit=$((${BOOT_TIMEOUT:-60} * 1000))
test_limit=$((${TIMEOUT:-900} * 1000))
booted=
shown=0
verdict=
# A round more after QEMU's end, for the last lines.
alive=1
while [ -n "$alive" ]; do
	kill -0 "$child" 2>/dev/null || alive=
	if [ -z "$booted" ] && [ -s "$OUT/results.tap" ]; then
		booted=$(milliseconds)
		awk -v ms=$((booted - begin)) 'BEGIN { printf "%-10s %7.1f s\n", "boot", ms / 1000 }' >>"$OUT/times"
	fi
	lines=$(wc -l <"$OUT/results.tap")
	if [ "$lines" -gt "$shown" ]; then
		show "$((shown + 1))" "$lines"
		shown=$lines
	fi
	[ -n "$alive" ] || break
	if [ -z "$booted" ] && [ $(($(milliseconds) - begin)) -gt "$boot_limit" ]; then
		verdict=boot
	elif [ -n "$booted" ] && [ $(($(milliseconds) - booted)) -gt "$test_limit" ]; then
		verdict=timeout
	fi
	if [ -n "$verdict" ]; then
		echo "$verdict" >"$OUT/verdict"
		kill "$child"
		break
	fi
	sleep 0.2
done
qemu_status=0
wait "$child" || qemu_status=$?
child=
# QEMU sometimes aborts (134, seen with 10.0) or gets SIGSEGV (139, with 7.2) while a guest
# with several processors scans its PCI devices (iotlb_to_section; QEMU's issue 1921). It is
# started again once, and only if no test has begun: a crash during the tests can be the
# kernel's fault.
case $qemu_status:$verdict$booted${QEMU_HAS_CRASHED:-} in
134: | 139:)
	say "QEMU crashed before the first test; starting it again: $(tail -n 1 "$OUT/qemu.log")" >&2
	QEMU_HAS_CRASHED=1 exec "$0" ;;
esac
[ -n "$verdict" ] || [ "$qemu_status" = 0 ] ||
	die_log qemu "$OUT/qemu.log" "QEMU failed with status $qemu_status"
[ -z "$booted" ] || awk -v ms=$(($(milliseconds) - booted)) \
	'BEGIN { printf "%-10s %7.1f s\n", "tests", ms / 1000 }' >>"$OUT/times"
