# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# The kernel's make, for the stages that build. Sourced after lib.sh.

. "$HARNESS/lib/arch.sh"
. "$HARNESS/lib/topics.sh"

# On x86_64 one of the tests is a 32-bit program.
need_compiler() {
	need gcc gcc
	case $kernel_gcc in
	*-11) need "$kernel_gcc" "gcc-11${arch_cross:+-${arch_cross%-}}" ;;
	esac
	if [ -z "$arch_cross" ]; then
		need /usr/lib32/libc.a "gcc-$(gcc -dumpversion)-multilib"
	else
		need "${arch_cross}gcc" "gcc-${arch_cross%-}" \
			"/usr/${arch_cross%-}/lib/libc.a" "libc6-dev-$ARCH-cross"
	fi
}

# The objects that the series changes
touched_objects() {
	series "$BASE" | xargs -d '\n' sed -n 's|^+++ b/\(.*\)\.c$|\1.o|p' | grep -v '^tools/' | sort -u
}

# KCSAN watches only a sample of the accesses. When it instrumented the whole kernel, it
# missed a number that was read without READ_ONCE. gcov counts only lines of ours.
instrumented() {
	case ,${DEBUG:-}, in
	*,kcsan,*)
		echo KCSAN_SANITIZE=n
		# Without the folder core.o is KCSAN's own, too, which would watch
		# itself without end.
		touched_objects | grep -v '/core\.o$' |
			sed 's|.*/|KCSAN_SANITIZE_|; s|$|=y|' ;;
	esac
	case ,${DEBUG:-}, in
	*,gcov,*) touched_objects | sed 's|.*/|GCOV_PROFILE_|; s|$|=y|' ;;
	esac
}

# These kernels write what gcov 11 reads; gcc 12 has another format.
kernel_gcc=${arch_cross}gcc
case ,${DEBUG:-}, in
*,gcov,*) kernel_gcc=${arch_cross}gcc-11 ;;
esac

# kbuild ARGUMENT...: the kernel's make in $BUILD, for this architecture.
# objtool's libsubcmd stops with gcc 12 (-Werror=use-after-free) in v5.14; this
# reaches the tools' makefiles by the variable that they have for it.
kbuild() {
	# shellcheck disable=SC2046 # words
	kmake O="$BUILD" ARCH="$arch_kernel" CROSS_COMPILE="$arch_cross" \
		CC="ccache $kernel_gcc" HOSTCC='ccache gcc' \
		EXTRA_CFLAGS=-Wno-use-after-free LOCALVERSION= $(instrumented) "$@"
}
