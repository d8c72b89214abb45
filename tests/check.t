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

export CHECK_UNTIL=$(($(date +%s) + 600))
fake_qemu pass
begin=$(date +%s)
leg "time enough: the leg as it is" v5.14-kselftest '^ok 1 - read global.ioctl$'
took=$(($(date +%s) - begin))
check "passes" passes
fake_qemu failed
leg "and when it fails" v5.14-kselftest '^not ok [0-9] - read global.sysfs$'
CHECK_UNTIL=$begin
leg "no time left" v5.14-guest '^1\.\.0 # SKIP .*time'
check "is no failure" passes
leg "but for the selftests" v5.14-kselftest '^not ok 1 .*time'
check "it is one" fails

# A guest that does not end. It is a zombie if nothing waits for it.
mkdir -p "$T/bin"
cat >"$T/bin/qemu" <<'END'
#!/bin/sh
echo $$ >"$CHECK/guest"
exec sleep 600
END
chmod +x "$T/bin/qemu"
QEMU=$T/bin/qemu
guest_ended() { ! grep -qs '^State:.[RSD]' "/proc/$(cat "$CHECK/guest")/status"; }
CHECK_UNTIL=$(($(date +%s) + 3 * took + 5))
leg "a leg that the time ends" v5.14-control '^1\.\.0 # SKIP .*time'
check "was in its guest" test -s "$CHECK/guest"
check "leaves no guest behind" soon guest_ended
CHECK_UNTIL=$(($(date +%s) + 600))
rm "$CHECK/guest"
"$leg" v5.14-control >"$T/tap" 2>"$T/why" &
for _ in $(seq 600); do [ ! -s "$CHECK/guest" ] || break; sleep 0.1; done
kill $!
wait $! || :
check "neither does one that a signal ends" soon guest_ended

# A leg that prints its cases one by one, and that the time ends.
printf '#!/bin/sh\necho "not ok 1 - early"\nsleep "$3"\nexit 124\n' >"$T/bin/timeout"
chmod +x "$T/bin/timeout"
CHECK_UNTIL=$(($(date +%s) + 3))
PATH=$T/bin:$PATH leg "a failure before the time ended the leg" v5.14-guest '^not ok 1 - early'
check "is one" fails
unset CHECK_UNTIL

dies "an unknown leg" usage . "$leg" v5.14-nonesuch
finish
