#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The legs of make check: what each counts as a failure. With a fake kernel and a fake QEMU.
. "$(dirname "$0")/lib.sh"
fake_world
unset OUT
export CHECK="$T/check" KSRC="$T/ksrc"
leg=$HARNESS/commands/check-leg.sh

# leg WHAT LEG TAP: the leg's TAP is what prove takes for pass or fail, and has this line
leg() {
	rm -rf "$CHECK"
	"$leg" "$2" >"$T/tap" 2>"$T/why"
	check "$1" grep -qE -e "$3" "$T/tap"
}
passes() { prove -Q --exec cat "$T/tap"; }
fails() { ! passes; }

fake_qemu pass
leg "a case that passes" v5.14-kselftest '^ok 1 - read global.ioctl$'
check "the leg passes" passes
leg "a case that is skipped" v5.14-kselftest '^ok [0-9] - read # SKIP global.other_driver'
fake_qemu failed
leg "a case that fails" v5.14-kselftest '^not ok [0-9] - read global.sysfs$'
check "the leg fails" fails
check "and names the case outside of its TAP" grep -q 'read global.sysfs' "$T/why"
fake_qemu warning
leg "all cases pass, but the kernel warns" v5.14-kselftest '^not ok .* status 0$'
fake_qemu truncated
leg "a guest that goes away" v5.14-kselftest '^not ok .* status 0$'

fake_qemu pass
leg "the unpatched kernel passes what it may not" v5.14-control '^not ok 1 '
check "the cases are named" grep -q 'passes on the unpatched kernel: read global.ioctl' "$T/why"
fake_qemu skipped
leg "it passes nothing" v5.14-control '^ok 1 '
fake_qemu truncated
leg "it goes away" v5.14-control '^not ok 1 '

leg "a mutant that does not apply" v5.14-mutant-detach-raises-nothing '^not ok 1 '
leg "a base without a source" v5.10-nosource '^1\.\.0 # SKIP'
check "is no failure" passes
dies "an unknown leg" usage . "$leg" v5.14-nonesuch
finish
