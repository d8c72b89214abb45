#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What is said of a guest, from what canned guests left behind; and what is said
# of QEMU when it does not even start.
. "$(dirname "$0")/lib.sh"
fake_world
run=$HARNESS/commands/run.sh
"$HARNESS/commands/run.sh" KSRC="$T/ksrc" QEMU=true >/dev/null 2>&1

# guest NAME STATUS MESSAGE [NAME=VALUE...]
guest() {
	guest_name=$1 guest_status=$2 guest_message=$3
	shift 3
	fake_qemu "$guest_name" "${END:-0}"
	dies "$guest_name" "$guest_status" "$guest_message" "$run" "$@"
}

fake_qemu pass
check "pass" "$run"
said "pass: counts cases, not programs" 'v5.14 series: 3 cases passed, 0 failed, 1 skipped'
said "pass: names what was skipped, and why" 'skipped: read: global.other_driver - no such driver'

guest failed failed "1 of 4 test cases failed"
said "failed: names it" 'failed:  read: global.sysfs'
said "failed: says how to have it again" "status 26;.* $T/out;.* make run"
guest died-inside failed .
said "died-inside: a case that was not reported has failed" 'failed:  read: global.other_driver .*signal=11'
guest bailed-out failed .
said "bailed-out: a program that failed without saying how has failed" 'failed:  soak: soak - exit=1'
guest test-timeout failed .
guest truncated truncated "went away during plain"
said "truncated: shows the console" 'Run /init'
guest no-end truncated .
guest too-few truncated .
guest panic-at-boot panic "panicked before the first test: Kernel panic"
guest oops oops "panicked during plain: Kernel panic"
guest warning oops "reported a bug during plain"
guest lockdep oops read
guest hung-task oops read
guest skipped nothing "no test was executed, or every one was skipped"
guest nothing nothing .
guest gone-at-boot boot .
END=hang
guest hang-at-boot boot "did not come to the first test within 1 s" BOOT_TIMEOUT=1
guest hang-in-test timeout "did not end within 1 s; plain was running" TIMEOUT=1
END=1
guest no-kvm qemu .

# QEMU dies of $SIGNAL the first $MOST times
cat >"$T/qemu" <<'END'
#!/bin/sh
echo >>"$CRASHES"
[ "$(wc -l <"$CRASHES")" -gt "$MOST" ] || kill -s "$SIGNAL" $$
exec "$TESTS/fake-qemu" "$@"
END
chmod +x "$T/qemu"
export TESTS CRASHES="$T/crashes"
fake_qemu pass
for signal in ABRT SEGV; do
	: >"$CRASHES"
	check "QEMU that dies of SIG$signal before the first test is started once more" \
		env MOST=1 SIGNAL="$signal" QEMU="$T/qemu" "$run"
	said "and that is said" 'QEMU crashed before the first test; starting it again'
done
: >"$CRASHES"
dies "but not twice" qemu 'status 139' env MOST=2 SIGNAL=SEGV QEMU="$T/qemu" "$run"

# The kernel's own decoder is asked where there is debug information.
tree=$T/cache/diskseq/tree/v5.14-series
mkdir -p "$tree/scripts"
printf '#!/bin/sh\nsed "s/^/with its line: /"\n' >"$tree/scripts/decode_stacktrace.sh"
chmod +x "$tree/scripts/decode_stacktrace.sh"
echo vmlinux >"$tree/build/vmlinux"
END=0
guest warning oops plain
check "without debug information nothing is decoded" sh -c '! grep -q "with its line" "$1"' sh "$T/said"
echo CONFIG_DEBUG_INFO=y >>"$tree/build/.config"
guest warning oops plain
said "with it a report is" 'with its line: .*WARNING: '

# A data race counts where the series has to do with it.
cat >"$T/patch" <<'END'
diff --git a/block/a.c b/block/a.c
--- a/block/a.c
+++ b/block/a.c
@@ -1,6 +1,7 @@ static int before(void)
 }
 
 static int changed(int a)
 {
+	one(a);
 	return a;
 }
@@ -20,3 +21,9 @@ static int in_the_head(void)
 	two();
+	three();
 	four();
 }
 EXPORT_SYMBOL(in_the_head);
+
+static int added(void)
+{
+	return 0;
+}
 
 int untouched(void)
diff --git a/tools/t.c b/tools/t.c
--- a/tools/t.c
+++ b/tools/t.c
@@ -1,1 +1,2 @@ int tool(void)
 {
+	five();
END
race() { echo "[    1.0][  T12] BUG: KCSAN: data-race in $1" | awk -v touched="$T/touched" -f "$HARNESS/awk/reports.awk"; }
counts() { [ -n "$(race "$1")" ] || { echo "$1 does not count"; return 1; }; }
counts_not() { [ -z "$(race "$1")" ] || { echo "$1 counts"; return 1; }; }
awk -f "$HARNESS/awk/touched.awk" "$T/patch" | sort -u >"$T/touched"
check "touched functions" test "$(tr '\n' ' ' <"$T/touched")" = "added changed in_the_head "
check "kcsan: a race with ours counts" counts "other / changed"
check "kcsan: one of unknown origin counts" counts "added.isra.0+0x1c/0x40"
check "kcsan: one between others does not" counts_not "before / untouched"
check "kcsan: nor by a part of a name" counts_not "changed_too / not_added"
: >"$T/touched"
check "kcsan: all count where nobody knows" counts "before / untouched"

# A leak is told without its address.
leak() {
	for at; do
		printf '%s\n' "unreferenced object 0xffff88800$at (size 256):" \
			'  comm "diskseq", pid 77, jiffies 42949 (age 12.3s)' '  backtrace:' \
			"    [<0000$at>] kmem_cache_alloc_trace+0x1/0x2" "    [<0000$at>] blkdev_ioctl+0x1c/0x2e"
	done | awk -f "$HARNESS/awk/reports.awk"
}
fake_qemu pass
dies "kmemleak: it must have looked" truncated . "$run" DEBUG=kasan
check "kmemleak: a leak counts" test "$(leak 2a3c000)" = "$(printf 'boot\tunreferenced object of 256 bytes of blkdev_ioctl')"
check "kmemleak: one of many is told" test "$(leak 2a3c000 2a3d000)" = "$(leak 2a3c000)"
said=$(echo '[  9.1] kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)' | awk -f "$HARNESS/awk/reports.awk")
check "kmemleak: one that the console did not tell counts" test -n "$said"
check "kmemleak: it is the same in another run" test "$(leak 2a3c000)" = "$(leak 7b1d400)"

# KVM: there and of use, not there, there and of no use.
fake_qemu pass
echo "flags : fpu vmx sse" >"$T/cpuinfo"
echo "flags : fpu sse" >"$T/cpuinfo.nested"
: >"$T/kvm"
check "kvm: a run" env KVM_DEVICE="$T/kvm" CPUINFO="$T/cpuinfo" "$run"
said "kvm: taken where it can be used" '^accelerator: kvm '
check "no kvm: a run" env KVM_DEVICE="$T/none" "$run"
said "no kvm: says why" "^accelerator: tcg .*$T/none"
check "nested kvm: a run" env KVM_DEVICE="$T/kvm" CPUINFO="$T/cpuinfo.nested" "$run"
said "nested kvm: says why" '^accelerator: tcg .*vmx'
dies "kvm asked for, not there" qemu "$T/none" env KVM_DEVICE="$T/none" "$run" ACCEL=kvm
finish
