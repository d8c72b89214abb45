# SPDX-License-Identifier: GPL-2.0
# Which guest runs which test: reads harness/tables/durations and the tests in their order,
# and prints "GUEST TEST" for each in the same order. The longest of those that are left
# goes to the guest that has the least to do.

FILENAME ~ /durations$/ {
	if (!/^#/)
		takes[$1] = $2
	next
}

{ test[++tests] = $1 }

END {
	for (n = 1; n <= tests; n++) {
		longest = -1
		for (i = 1; i <= tests; i++) {
			weight = test[i] in takes ? takes[test[i]] : 1
			if (!(i in guest) && weight > longest) {
				longest = weight
				next_one = i
			}
		}
		least = 1
		for (g = 2; g <= guests; g++)
			if (load[g] + 0 < load[least] + 0)
				least = g
		guest[next_one] = least
		load[least] += longest
	}
	for (i = 1; i <= tests; i++)
		print guest[i], test[i]
}
