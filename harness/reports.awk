# SPDX-License-Identifier: GPL-2.0
# Finds in a guest's console what no test run may leave there, and puts it down
# to the test that was running: prints "TEST<tab>REPORT". KNOWN names a file of
# regular expressions for what the unpatched kernel reports too.

BEGIN {
	test = "boot"
	while (known != "" && (getline line < known) > 0)
		if (line !~ /^(#|$)/)
			ignore[++n] = line
}

{
	sub(/\r$/, "")
	sub(/^\[ *[0-9.]+\](\[ *[TC][0-9]+\])? /, "")
}

/^diskseq: test / { test = $3; next }
/^diskseq: end of tests/ { test = "end"; next }

/BUG:|^WARNING: |Oops: |^general protection fault|^Kernel panic|^INFO: |KASAN: |KCSAN: |^UBSAN: |^stack segment|^divide error|^int3:|^irq .* nobody cared|^unreferenced object|^list_(add|del) corruption|refcount_t:/ {
	for (i = 1; i <= n; i++)
		if ($0 ~ ignore[i])
			next
	print test "\t" $0
}
