# SPDX-License-Identifier: GPL-2.0
# A "diff -U0" comes in; a line "FILE NUMBER" for each line that it adds goes out.
/^\+\+\+ / {
	file = substr($2, 3)
}
/^@@ / {
	split($3, range, ",")
	first = substr(range[1], 2) + 0
	n = range[2] == "" ? 1 : range[2]
	for (i = 0; i < n; i++)
		print file, first + i
}
