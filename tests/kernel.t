#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A kernel that was built elsewhere (KERNEL=): what is refused as one, what becomes of a
# guest that a test ends, and what is said of the promise.
. "$(dirname "$0")/lib.sh"
fake_world
run=$HARNESS/commands/run.sh
cache=$T/cache/diskseq
"$run" KSRC="$T/ksrc" QEMU=true >/dev/null 2>&1

# image FILE RELEASE: as the boot protocol wants it
image() {
	{
		head -c 514 /dev/zero
		printf 'HdrS'
		head -c 8 /dev/zero
		printf '\000\001'		# the version: at 0x100, from 512 on
		head -c 240 /dev/zero
		printf '%s (somebody@somewhere) #1\000' "$2"
	} >"$1"
}

left_nothing() {
	[ -z "$(find "$cache/kernel" "$cache/tmp" -mindepth 1 2>/dev/null)" ]
}

image "$T/bzImage" 6.6.6-test
mkdir -p "$T/6.6.6-test/kernel" "$T/6.6.5-test/kernel" "$T/empty"
for file in builtin builtin.modinfo order; do : >"$T/6.6.6-test/modules.$file"; done
dies "KERNEL that does not exist" kernel "$T/none" "$run" KERNEL="$T/none"
dies "KERNEL that is no kernel" kernel "$T/ksrc/Makefile" "$run" KERNEL="$T/ksrc/Makefile"
dies "KERNEL that is a folder" kernel "$T/ksrc" "$run" KERNEL="$T/ksrc"
dies "MODULES of another version" kernel '6\.6\.5-test.*6\.6\.6-test' "$run" KERNEL="$T/bzImage" MODULES="$T/6.6.5-test"
dies "MODULES that are none" kernel "$T/empty" "$run" KERNEL="$T/bzImage" MODULES="$T/empty"
dies "MODULES without KERNEL" usage KERNEL= "$run" MODULES="$T/6.6.6-test"
dies "MODULES with a Debian kernel" usage MODULES= "$run" KERNEL=debian:trixie MODULES="$T/6.6.6-test"
dies "KERNEL with a variant" usage KERNEL= "$run" KERNEL="$T/bzImage" VARIANT=base
dies "KERNEL with DEBUG" usage KERNEL= "$run" KERNEL="$T/bzImage" DEBUG=lockdep
dies "a suite without a name" kernel debian: "$run" KERNEL=debian:
dies "a suite that is a path" kernel 'debian:\.\.' "$run" KERNEL=debian:../sid

# The machine's apt, with packages of our own: PACKAGE... in $T/pool. Packages that are
# missing here still come from the real one.
mkdir "$T/bin" "$T/pool"
cat >"$T/bin/apt-get" <<'END'
#!/bin/sh
case $* in
*Dir::Etc::sourcelist=* | *indextargets*) ;;
*) exec /usr/bin/apt-get "$@" ;;
esac
for word; do
	case $word in
	indextargets) echo http://mirror.invalid/; exit ;;
	update) [ -z "$NO_SUITE" ]; exit ;;
	download) cp "$POOL"/*.deb .; exit ;;
	esac
done
END
cat >"$T/bin/apt-cache" <<'END'
#!/bin/sh
echo linux-image-amd64
(cd "$POOL" && echo *.deb) | tr ' ' '\n' | sed 's/_.*//'
END
chmod +x "$T/bin"/*
export POOL="$T/pool" NO_SUITE=
with_apt() {
	env PATH="$T/bin:$PATH" "$@"
}

# package NAME PATH...: of files that are below $T/root
package() {
	mkdir -p "$T/root/DEBIAN"
	printf 'Package: %s\nVersion: 6.6.6-1\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n' \
		"$1" >"$T/root/DEBIAN/control"
	dpkg-deb -b "$T/root" "$T/pool/$1_6.6.6-1_amd64.deb" >/dev/null
	rm -rf "$T/root"
}

NO_SUITE=1 dies "a suite that no mirror has" kernel 'debian:nonesuch.*nonesuch' with_apt "$run" KERNEL=debian:nonesuch
check "leaves nothing in the cache" left_nothing
mkdir -p "$T/root/usr/share"
package linux-image-6.6.6-test
dies "packages that hold no kernel" kernel debian:trixie with_apt "$run" KERNEL=debian:trixie
check "leave nothing in the cache" left_nothing
mkdir -p "$T/root/boot"
image "$T/root/boot/vmlinuz-6.6.6-test" 6.6.6-test
package linux-binary-6.6.6-test
dies "a kernel without its modules" kernel debian:trixie with_apt "$run" KERNEL=debian:trixie
check "leaves nothing in the cache" left_nothing
mkdir -p "$T/root/usr/lib/modules"
cp -r "$T/6.6.6-test" "$T/root/usr/lib/modules/"
package linux-modules-6.6.6-test

fake_qemu stock
check "a Debian kernel" with_apt "$run" KERNEL=debian:trixie
said "says which" 'kernel: 6\.6\.6-test, of Debian.s linux-binary-6\.6\.6-test 6\.6\.6-1'
check "it is what boots" cmp "$T/out/kernel" "$cache/kernel/trixie/vmlinuz"
check "the modules that init loads are listed" grep -qx loop "$T/out/modules/lib/modules/diskseq"
NO_SUITE=1 check "the second time there is no need of a network" with_apt "$run" KERNEL=debian:trixie
touch -d '2 days ago' "$cache/kernel/trixie/package"
NO_SUITE=1 check "nor when it is old" with_apt "$run" KERNEL=debian:trixie
said "but that is said" 'no newer kernel can be fetched'

# newer packages have the kernel beside its modules
rm -r "$cache/kernel/trixie" "$T"/pool/linux-binary-*
mkdir -p "$T/root/usr/lib/modules/6.6.6-test"
image "$T/root/usr/lib/modules/6.6.6-test/vmlinuz" 6.6.6-test
package linux-binary-6.6.6-test
check "a Debian kernel in its modules' folder" with_apt "$run" KERNEL=debian:trixie
check "it is what boots, too" cmp "$T/out/kernel" "$T/bzImage"

check "a kernel by its path, with modules: exits 0 though tests fail" "$run" KERNEL="$T/bzImage" MODULES="$T/6.6.6-test"
said "a row with a case that failed is broken" '^  C4 +broken '
said "one whose cases pass is kept" '^  D45 +kept '
said "and so is one that the failed case says nothing against" '^  C6 +kept '
said "one that no case has asked is neither" '^  C1 +not asked '
said "a detector that the kernel lacks is named" '^  C12 +not asked .*needs lockdep'
said "the failed case is named" 'failed:  diskseq_loop_test: loop\.whole\.detach_by_clr_fd'
check "the cases behind a row are in OUT" grep -q '^C4	broken	1	1	.*loop.whole.detach_by_clr_fd' "$T/out/promise"

# What ends a guest costs its own program only.
cat >"$T/qemu" <<'END'
#!/bin/sh
echo "$@" >>"$CALLS"
case $* in
*FROM=*) exec "$TESTS/fake-qemu" "$@" ;;
esac
CANNED=$TESTS/canned/oops exec "$TESTS/fake-qemu" "$@"
END
chmod +x "$T/qemu"
printf 'read\nplain\ndiskseq_loop_test\n' >"$T/out/tests"
export CALLS="$T/calls" TESTS
check "a guest that crashes is followed by another" env QEMU="$T/qemu" BASE=v5.14 KERNEL="$T/bzImage" "$HARNESS/stages/guests.sh"
check "which goes on after the test that was running" grep -q 'FROM=diskseq_loop_test' "$T/calls"
check "that one has failed" grep -q '^fail	plain	plain - Kernel panic' "$T/out/results"
check "and the others have their results" grep -q '^pass	diskseq_loop_test	loop.whole.attach_by' "$T/out/results"
check "there were two guests" test "$(wc -l <"$T/calls")" = 2

# Beside the series: of the kernels of harness/tables/compare only one can be had.
fake_qemu stock
NO_SUITE=1 check "make compare" with_apt "$HARNESS/commands/compare.sh"
said "has a line for the series" '^v5\.14 with the series +[0-9]+ +[0-9]+ +[0-9]+$'
said "one for a kernel" '^Linux 6\.6\.6, Debian trixie \(6\.6\.6-1\) +[0-9]+ +[0-9]+ +[0-9]+$'
said "and one for a kernel that cannot be had" '^Debian bookworm +not tested: no Debian mirror '
said "the newest is looked for in each suite" '^Debian trixie-backports or sid +not tested'
said "a row has a verdict of each" '^C4 +broken +- +broken +- '
check "the same is there as rst" grep -q '^   \* - D46$' "$RESULTS/compare/newer-kernels.rst"
finish
