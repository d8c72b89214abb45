#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The Debian guest: its image and what goes with it, with a fake mmdebstrap, a
# fake apt, a fake kernel and a fake QEMU.
. "$(dirname "$0")/lib.sh"
sh -c '. "$1/lib/lib.sh"; need fakeroot fakeroot mke2fs e2fsprogs' "$HARNESS/lib/lib.sh" "$HARNESS" >&2
fake_world
fake_qemu pass
export GUEST=userland USERLAND="$T/userland"
run=$HARNESS/commands/run.sh
images=$T/cache/diskseq/image

made() { wc -l <"$T/made"; }
count_images() { find "$images" -type f | wc -l; }

# A recipe of a few lines, in the tests' own words.
mkdir -p "$USERLAND/tests" "$USERLAND/guest" "$USERLAND/example" "$USERLAND/overlay/etc" "$T/bin"
printf '# a comment\nsystemd\nudev # another\n' >"$USERLAND/packages"
echo fstrim.timer >"$USERLAND/masked"
echo hello >"$USERLAND/overlay/etc/hello"
echo 'int main(void) { return 0; }' >"$USERLAND/guest/diskseq.c"
echo 'int main(void) { return 0; }' >"$USERLAND/example/diskseq-wait.c"
: >"$USERLAND/tests/one"

# Packages that are missing here still come from the real one.
cat >"$T/bin/apt-get" <<'END'
#!/bin/sh
[ "$1" = indextargets ] || exec /usr/bin/apt-get "$@"
[ "${FAKE_APT:-}" != empty ] || exit 0
echo 'Other main bookworm http://other.invalid/debian/'
for codename in bookworm bookworm-updates bookworm-backports; do
	echo "Debian main $codename http://mirror.invalid/debian/"
	echo "Debian contrib $codename http://mirror.invalid/debian/"
done
echo 'Debian main bookworm-security http://mirror.invalid/security/'
END
cat >"$T/bin/apt-config" <<'END'
#!/bin/sh
echo 'Acquire::http::Proxy "http://proxy.invalid";'
END
cat >"$T/bin/mmdebstrap" <<'END'
#!/bin/sh
echo made >>"$MADE"
cat >"$MADE.sources"
for word; do
	echo "$word" >>"$MADE.words"
	case $word in
	*.tar) tar=$word ;;
	esac
done
case ${FAKE_MMDEBSTRAP:-} in
fail)	echo 'E: apt-get update failed'; exit 1 ;;
full)	echo 'tar: root: No space left on device'; exit 1 ;;
slow)	sleep 30 ;;
esac
root=$(mktemp -d)
mkdir -p "$root/etc/systemd/system"
tar -C "$root" -cf "$tar" .
rm -r "$root"
END
chmod +x "$T"/bin/*
export MADE="$T/made" PATH="$T/bin:$PATH"
: >"$MADE"

dies "another architecture" usage ARCH= "$run" ARCH=arm64
dies "an unknown GUEST" usage GUEST "$run" GUEST=plan9
dies "an unknown VARIANT" usage VARIANT "$run" VARIANT=bare
dies "an unknown TEST" usage "'tow'" "$run" KSRC="$T/ksrc" TEST=tow
dies "an unknown SUITE" usage "unknown SUITE 'buster' \(there are: trixie bookworm sid\)" "$run" SUITE=buster
dies "no mirror of Debian" image "no mirror of Debian" env FAKE_APT=empty "$run"
dies "mmdebstrap fails" image "trixie.*$T/out/image.log" env FAKE_MMDEBSTRAP=fail "$run"
said "its last words are shown" "E: apt-get update failed"
dies "the disk fills up" disk . env FAKE_MMDEBSTRAP=full "$run"
check "no image came of these" sh -c '! ls "$1"/* 2>/dev/null' sh "$images"

: >"$MADE"
rm -f "$MADE.words"
check "a run" "$run"
cat >"$T/expected" <<-'END'
	deb http://mirror.invalid/debian/ trixie main
	deb http://mirror.invalid/debian/ trixie-updates main
	deb http://mirror.invalid/security/ trixie-security main
END
check "the image is of the newest release, from this machine's mirrors" diff "$T/expected" "$MADE.sources"
check "with the recipe's packages" grep -qx -e '--include=systemd,udev' "$MADE.words"
check "the guest knows which it is" grep -q ' SUITE=trixie ' "$T/out/commands"
check "the overlay is in it" sh -c 'debugfs -R "cat /etc/hello" "$1" | grep -qx hello' sh "$T/out/root.ext4"
check "units are masked" sh -c 'debugfs -R "stat /etc/systemd/system/fstrim.timer" "$1" | grep -q "Fast link dest: ./dev/null"' sh "$T/out/root.ext4"
check "its files are root's" sh -c 'debugfs -R "stat /etc/hello" "$1" | grep -q "User: *0 "' sh "$T/out/root.ext4"
check "the kernel is configured for it" grep -qx CONFIG_CGROUPS=y "$T/cache/diskseq/tree/v5.14-series/build/.config"
check "a guest cannot change the image" grep -q 'root.ext4,format=raw,if=virtio,snapshot=on' "$T/out/commands"
check "the tests are in the tar" sh -c 'tar -tf "$1" tests/one guest/diskseq' sh "$T/out/tests.tar"
check "each stage's time is noted" sh -c 'for s in image payload boot; do grep -q "^$s .* s$" "$1" || exit 1; done' sh "$T/out/times"

check "a second run" "$run"
check "takes the image from the cache" same "$(made)" 1
echo bye >"$USERLAND/overlay/etc/hello"
check "a changed overlay" "$run"
check "makes another image" same "$(made)" 2
: >"$USERLAND/tests/two"
check "a test more" "$run" TEST=two
check "does not" same "$(made)" 2
check "the unpatched kernel" "$run" VARIANT=base
check "is a kernel of its own" grep -qx two "$T/out/kernel"
check "configured for Debian too" grep -qx CONFIG_CGROUPS=y "$T/cache/diskseq/tree/v5.14-base/build/.config"
check "and boots the same image" same "$(made)" 2

check "another release" "$run" SUITE=bookworm
said "its name is in the totals" '^v5.14 series bookworm: '
check "is another image" same "$(made)" 3
check "of that release" grep -qx 'deb http://mirror.invalid/security/ bookworm-security main' "$MADE.sources"
check "sid" "$run" SUITE=sid
check "has no updates" same "$(cat "$MADE.sources")" 'deb http://mirror.invalid/debian/ sid main'

# Stopped while the image is made.
echo libc6 >>"$USERLAND/packages"
before=$(count_images)
FAKE_MMDEBSTRAP=slow setsid "$run" >"$T/said" 2>&1 &
slow=$!
for _ in $(seq 100); do
	[ "$(made)" = 5 ] && break
	sleep 0.1
done
kill -s TERM -- "-$slow"
wait "$slow" || :
check "stopped: nothing half made is in the cache" same "$(count_images)" "$before"
check "stopped: no temporary directory stays" same "$(find "$T/cache/diskseq/tmp" -mindepth 1)" ""
check "a run after that" "$run"
finish
