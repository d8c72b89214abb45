# SPDX-License-Identifier: GPL-2.0
# Finds the kernel reports in a guest's console that no test run may cause, and assigns
# them to the test that was running: prints "TEST<tab>REPORT". KNOWN names a file of
# regular expressions for what the unpatched kernel reports too, TOUCHED one of
# the functions that the series has to do with: a data race counts between two
# accesses of which one is in them. The kernel is full of others. A leak is identified
# by its size and its callers, not by its address, which differs from run to run, and
# is reported once.

BEGIN {
	test = "boot"
	while (known != "" && (getline line < known) > 0)
		if (line !~ /^(#|$)/)
			ignore[++n] = line
	while (touched != "" && (getline line < touched) > 0)
		ours[line] = known_touched = 1
}

# "BUG: KCSAN: data-race in one / two", or "in one+0x12/0x34"
function others_race(report,	names, i, count)
{
	if (!known_touched || !sub(/^BUG: KCSAN: (data-race|assert: race) in /, "", report))
		return 0
	count = split(report, names, " / ")
	for (i = 1; i <= count; i++) {
		sub(/\+0x.*/, "", names[i])
		sub(/\..*/, "", names[i])
		if (names[i] in ours)
			return 0
	}
	return 1
}

function report(text,	i)
{
	for (i = 1; i <= n; i++)
		if (text ~ ignore[i])
			return
	if (!others_race(text))
		print test "\t" text
}

function end_of_leak()
{
	if (leak != "" && !reported[leak]++) {
		leaks++
		report(leak)
	}
	leak = ""
}

{
	sub(/\r$/, "")
	sub(/^\[ *[0-9.]+\](\[ *[TC][0-9]+\])? /, "")
}

# another guest's console
/^Linux version / { test = "boot" }
/^diskseq: test / { test = $3; next }
/^diskseq: end of tests/ { test = "end"; next }

# unreferenced object 0xffff888002a3c000 (size 256):
/^unreferenced object / {
	end_of_leak()
	leak = "unreferenced object of " $5 " bytes of"
	sub(/\):/, "", leak)
	callers = 0
	next
}
leak != "" && /^    \[<[0-9a-f]+>\] / {
	caller = $2
	sub(/\+0x.*/, "", caller)
	if (caller !~ /alloc|kmemdup|kstrdup|kvasprintf/ && callers++ < 4)
		leak = leak " " caller
	next
}
leak != "" && !/^ / { end_of_leak() }
# What the console lost a part of is still a leak.
/^kmemleak: [0-9]+ new suspected memory leak/ { suspected++ }

/BUG:|^WARNING: |Oops: |^general protection fault|^Kernel panic|^INFO: |KASAN: |KCSAN: |^UBSAN: |^stack segment|^divide error|^int3:|^irq .* nobody cared|^list_(add|del) corruption|refcount_t:/ { report($0) }

END {
	end_of_leak()
	if (suspected && !leaks)
		report("kmemleak: suspected memory leaks")
}
