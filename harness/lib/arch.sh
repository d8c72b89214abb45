# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh disable=SC2034 # for the scripts that source it
# ARCH=: what the stages need to know about the guest's architecture. Sourced after
# lib.sh.
#
#   arch_kernel	what the kernel's makefiles call it
#   arch_cc		the compiler of the guest's programs, and its options
#   arch_cross		CROSS_COMPILE of the kernel's makefile
#   arch_image		what QEMU boots, as kbuild's target and in the build
#   arch_qemu		the emulator, and its package
#   arch_machine	its board
#   arch_cpu		its processor, without an accelerator
#   arch_console	what Linux calls the serial port
#   arch_append	other words for the kernel's command line

arches() {
	find "$HARNESS/config" -name 'arch-*.config' | sed 's/.*arch-\(.*\).config/\1/' | sort | xargs
}

arch_cross=
arch_append=
case $ARCH in
x86_64 | i386)
	arch_kernel=$ARCH
	arch_image='bzImage arch/x86/boot/bzImage'
	arch_qemu='qemu-system-x86_64 qemu-system-x86'
	arch_machine=pc arch_cpu=max
	arch_console=ttyS0
	# That the timer works need not be tried: on a busy machine a guest may be
	# kept waiting just then, and panic.
	arch_append=no_timer_check ;;
arm64)
	arch_kernel=arm64
	arch_cross=aarch64-linux-gnu-
	arch_image='Image arch/arm64/boot/Image'
	arch_qemu='qemu-system-aarch64 qemu-system-arm'
	# The signatures of pointers that the processor defines cost much to emulate.
	arch_machine=virt arch_cpu=max,pauth-impdef=on
	arch_console=ttyAMA0 ;;
s390x)
	arch_kernel=s390
	arch_cross=s390x-linux-gnu-
	arch_image='bzImage arch/s390/boot/bzImage'
	arch_qemu='qemu-system-s390x qemu-system-misc'
	arch_machine=s390-ccw-virtio arch_cpu=max
	arch_console=ttyS1 ;;
*)
	die usage "unknown ARCH '$ARCH' (there are: $(arches))" ;;
esac

# gcc-multilib has a link for what -idirafter does here, but conflicts with every cross
# compiler.
case $ARCH in
x86_64)	arch_cc='gcc -idirafter/usr/include/x86_64-linux-gnu' ;;
i386)	arch_cc='gcc -m32 -idirafter/usr/include/x86_64-linux-gnu' ;;
*)	arch_cc=${arch_cross}gcc ;;
esac
