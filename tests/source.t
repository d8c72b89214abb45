#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Where a base's source comes from, and what is refused as one.
. "$(dirname "$0")/lib.sh"
fake_world
unset OUT
fetch=$HARNESS/stages/fetch.sh
cache=$T/cache/diskseq
mkdir "$T/empty"

# sources_with URL SHA256: the first base comes from there
sources_with() {
	export SOURCES="$T/sources"
	printf 'v5.14\t5.14\ttarball\t%s\t%s\n' "$1" "$2" >"$SOURCES"
}

left_nothing() {
	[ -z "$(find "$cache/src" "$cache/tmp" -mindepth 1 2>/dev/null)" ]
}

dies "KSRC that does not exist" badsource "$T/none" env KSRC="$T/none" "$fetch"
dies "KSRC that is no kernel" badsource "$T/empty" env KSRC="$T/empty" "$fetch"
fake_kernel "$T/v4.19" 5 19
dies "KSRC of another version" badsource '5\.19\.5' env KSRC="$T/v4.19" "$fetch"
dies "KSRC of the other base" badsource v5.10 env KSRC="$T/ksrc" BASE=v5.10 "$fetch"
fake_kernel "$T/patched"
echo '#define BLKGETDISKSEQ' >>"$T/patched/include/uapi/linux/fs.h"
dies "KSRC that is patched already" badsource "$T/patched" env KSRC="$T/patched" "$fetch"
fake_kernel "$T/built"
: >"$T/built/.config"
dies "KSRC that was built in" badsource "$T/built" env KSRC="$T/built" "$fetch"
check "nothing of all that is in the cache" left_nothing

sources_with "http://127.0.0.1:9/linux-5.14.tar.xz" 0
dies "no network and no cache" source v5.14 env BASE=v5.14 "$fetch"
dies "the same without BASE" source v5.14 "$fetch"

tar -C "$T" -cJf "$T/linux-5.14.tar.xz" ksrc
sources_with "file://$T/linux-5.14.tar.xz" 0000
dies "a tarball with another sha256" checksum linux-5.14.tar.xz env BASE=v5.14 "$fetch"
check "it is deleted" sh -c '[ -z "$(ls "$1/download")" ]' sh "$cache"
check "and none of it was used" left_nothing
dies "KSRC with the tarball's name and another sha256" checksum KSRC= \
	env KSRC="$T/linux-5.14.tar.xz" "$fetch"
check "that one is the user's and stays" test -f "$T/linux-5.14.tar.xz"

sources_with "file://$T/linux-5.14.tar.xz" "$(sha256sum <"$T/linux-5.14.tar.xz" | cut -d' ' -f1)"
check "a tarball that is the right one" env BASE=v5.14 "$fetch"
check "it is in the cache" diff -r "$T/ksrc" "$cache/src/v5.14"
sources_with "http://127.0.0.1:9/linux-5.14.tar.xz" 0
check "the second time there is no need of a network" env BASE=v5.14 "$fetch"

rm -rf "$cache"
check "KSRC, a tree" env KSRC="$T/ksrc" "$fetch"
check "later commands have it" env BASE=v5.14 "$fetch"
before=$(stat -c %i "$cache/src/v5.14")
check "the same KSRC again is not copied again" sh -c \
	'KSRC=$1 "$2" && [ "$(stat -c %i "$3")" = "$4" ]' sh "$T/ksrc" "$fetch" "$cache/src/v5.14" "$before"
sleep 1
echo more >>"$T/ksrc/block/other.c"
check "a KSRC that changed is" sh -c 'KSRC=$1 "$2" && diff -r "$1" "$3"' sh "$T/ksrc" "$fetch" "$cache/src/v5.14"

# A tar that takes its time, to be stopped in the middle.
rm -rf "$cache"
mkdir "$T/bin"
printf '#!/bin/sh\nmkdir -p "$2/half"; sleep 3; exec /bin/tar "$@"\n' >"$T/bin/tar"
chmod +x "$T/bin/tar"
env KSRC="$T/ksrc" PATH="$T/bin:$PATH" setsid "$fetch" >"$T/said" 2>&1 &
sleep 1
kill -s TERM -- "-$!"
wait "$!" 2>/dev/null || :
check "stopped while copying: nothing is left half-made" left_nothing
check "and the next one works" env KSRC="$T/ksrc" "$fetch"

# A file system that is too small for a kernel.
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
	mkdir "$T/small"
	dies "a disk that is full" disk . \
		unshare -m sh -c 'mount -t tmpfs -o size=8m none "$1" && XDG_CACHE_HOME=$1 KSRC=$2 "$3"' \
		sh "$T/small" "$T/ksrc" "$fetch"
else
	ok "a disk that is full # SKIP needs root and mount namespaces"
fi
finish
