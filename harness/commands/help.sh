#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What "make help" prints; "variables": what "make help-variables" prints.

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"
. "$HARNESS/lib/arch.sh"
. "$HARNESS/lib/suites.sh"

commands() {
	cat <<END
diskseq: a disk sequence number for Linux block devices, and its tests

every day:
  make run         fetch a kernel, apply the series, build, boot in QEMU, test
  make check       all tests: lint, the harness's own, and for each base (or BASE=) the
                   kselftests under load, the unpatched kernel, the mutants, userland
  make userland    the patched kernel with a Debian system: systemd, udev, udisks, mdadm, ...
                   SUITE=NAME: $(suites all)
  make lint        patches, layout, checkpatch, sparse, kernel-doc, shellcheck
  make tree        work/BASE: a kernel tree with the series as commits, to change it
  make export      write patches/ and the folders by file from that tree
  make shell       a shell in the patched kernel, with the tests in /kselftest
  make fetch       only the base's source, into the cache
  make clean       remove what was built and out/; make distclean: the sources too

long proofs:
  make race        wrong events by name and by number: out/race/race.txt and race.svg
  make bench       instructions and time against the unpatched kernel: out/bench/bench.txt
  make fuzz        random ioctls; the seed that it prints repeats them
  make soak        a million attaches, and thousands of devices at once
  make cross       compile what the series changes for other architectures
  make check-full  the tests on debug kernels, other architectures and under stress;
                   continues where it was stopped
  make compare     which parts of the promise Debian's own kernels keep, beside the one
                   with the series: out/compare/compare.txt
  make prefixes    build and boot after each patch of each topic

often used (make help-variables: all of them, and the exit statuses):
  BASE=NAME        the kernel: $(bases)
  KSRC=PATH        take its source from this tree or tarball
  TEST=PATTERN     only these tests
  TOPIC=NAME       only this topic of the series
  WORKTREE=DIR     test this kernel tree
  KERNEL=PATH      test this kernel as it is: a bzImage, or debian:SUITE
  DEBUG=NAME       a debug kernel: $(debug_kernels)

out/last/ has the logs of the newest run: console.log, build.log, results.tap, and the
commands that built and booted the kernel (commands)
END
}

debug_kernels() {
	find "$HARNESS/config" -name 'debug-*' | sed 's/.*debug-\(.*\).config/\1/' | sort | xargs
}

all_variables() {
	say "variables, and the commands that read them:"
	awk -F '\t' -v bases="$(bases)" -v arches="$(arches)" -v debug="$(debug_kernels)" -v suites="$(suites all)" '
		/^#/ { next }
		{
			help = $6
			sub(/\{bases\}/, bases, help)
			sub(/\{arches\}/, arches, help)
			sub(/\{debug\}/, debug, help)
			sub(/\{suites\}/, suites, help)
			if ($3 != "-")
				help = help "; default: " $3
			if ($4 ~ /^[0-9]/ && $4 != "1-1")
				help = help "; at most " substr($4, index($4, "-") + 1)
			else if ($4 ~ / /)
				help = help "; one of: " $4
			printf "  %s  (%s)\n      %s\n", $1, $2, help
		}' "$HARNESS/tables/variables"
	cat <<END

the cache, with sources, trees and builds (XDG_CACHE_HOME= names another place):
  $CACHE

exit status (of harness/commands/run.sh NAME=VALUE..., which "make run" calls; make
itself exits 2 and prints the status as "Error N"):
END
	awk -F '\t' '!/^#/ { printf "  %3d  %s\n", $1, $3 }' "$HARNESS/tables/status"
}

case ${1:-} in
variables) all_variables ;;
*) commands ;;
esac
