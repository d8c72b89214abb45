#!/bin/sh
# SPDX-License-Identifier: GPL-2.0

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"
. "$HARNESS/lib/arch.sh"

cat <<END
diskseq: a disk sequence number for Linux' block devices, and its tests

  make run       fetch a kernel, apply the series, build it, boot it in QEMU,
                 run the kselftests, tell
  make userland  the patched kernel under a Debian 12: what systemd, udev, udisks,
                 mdadm, cryptsetup and util-linux make of the number
  make race      many programs attach their images and wait for their events, by name
                 and by number, on the patched kernel and on the unpatched one: how
                 often each is wrong, as a table and a picture in out/race/
  make bench     what the number costs: guest instructions and time on the unpatched
                 and the patched kernel, sizes; a table in out/bench/bench.txt
  make fuzz      random ioctls by privileged and unprivileged processes: no oops, no
                 hang, and the numbers are right afterwards; says its seed
  make soak      attach and detach for long, and thousands of devices at once: neither
                 memory nor time may grow
  make cross     what the series changes, compiled for the architectures that no guest
                 runs (CROSS=NAME: only these)
  make check     everything: lint, the harness's own tests, and for each base
                 whose source can be had the tests under full load, the negative
                 control (unpatched kernel) and the mutants, and make userland
                 with its control
  make check-full  the tests under stress: debug kernels, other architectures, more
                 CPUs than there are, 20 times; goes on where it was stopped
  make lint      checkpatch, sparse, W=1, kernel-doc, get_abi, shellcheck, patches
                 and layout in step
  make prefixes  each topic of BASE with just what it needs: every patch of it builds
                 with options on and off, and boots, and at the end its tests pass
                 (long: for whoever changed a patch; TOPIC=NAME: only this one)
  make shell     the patched kernel with a shell, the tests in /kselftest; with
                 GUEST=userland in the Debian
  make fetch     a base's source into the cache; with KSRC= that tree
  make tree      work/BASE: a kernel tree with the series as commits, to change it
  make export    write patches/BASE, patches/selftests and the folders by file from
                 that tree
  make clean     remove what was built and out/; make distclean: the sources too

variables:
  BASE=NAME      one of: $(bases). Without it: the first whose source can be had
  KSRC=PATH      a kernel tree or tarball to take the base's source from
  TOPIC=NAME     run: only this topic of patches/BASE (several with commas), with what it
                 needs, and its tests
  TEST=PATTERN   only these tests (fnmatch; several with commas)
  GUEST=NAME     kselftest (the default) or userland, for make shell
  REPEAT=N       each test N times
  ITEM=PATTERN   bench: only these items (several with commas; see stress/goals)
  ROUNDS=N       bench: each kernel N times, in turn (2)
  ARCH=NAME      make run: the guest's architecture (x86_64), one of: $(arches)
  SMP=N          the guest's processors (2; at most 8)
  LEG=NAME       make check-full: only these legs (several with commas; see
                 harness/tables/full-legs)
  DEBUG=NAME     a debug kernel: $(find "$HARNESS/config" -name 'debug-*' | sed 's/.*debug-\(.*\).config/\1/' | sort | tr '\n' ' ')
  WAY=NAME       make race: all (the default), name or diskseq
  ATTACHES=N PROCESSES=N LOOPS=N   make race: how often (4000; 100000 is the proof), by
                 how many at once (16), on how many devices (32)
  BUFFER=N LIMIT=MS   make race: bytes for each socket's events (65536), and how long
                 who goes by name waits (1000)
  SEED=N OPERATIONS=N   make fuzz: the same calls again; how many (200000)
  CYCLES=N MANY=N   make soak: how many attaches (1000000), how many devices (4096)
  DISKSEQ_CYCLES=N   load of the concurrency tests (make check: 10000)
  ACCEL=kvm|tcg  without it KVM where it is of use, else TCG
  TIMEOUT=S BOOT_TIMEOUT=S   limits for the tests (900) and the boot (60; Debian 180, DEBUG= 600)
  APPEND=WORDS   more words for the guest kernel's command line
  WORKTREE=DIR   run, export: this kernel tree as it stands, not patches/
  VARIANT=NAME   series (the default), base (unpatched), mutant-NAME
  NO_INSTALL=1   name missing Debian packages instead of installing them
  V=1            show the tests' output in full

places:
  out/last/      the newest run: console.log, build.log, results.tap, commands
  out/race/      the last make race that came to its end: race.txt, race.svg
  $CACHE
                 sources, trees, builds (another place: XDG_CACHE_HOME=)

exit status (of harness/commands/run.sh NAME=VALUE..., which "make run" calls; make itself
exits 2 and prints the status as "Error N"):
END
awk -F '\t' '!/^#/ { printf "  %3d  %s\n", $1, $3 }' "$HARNESS/tables/status"
