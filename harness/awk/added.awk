# SPDX-License-Identifier: GPL-2.0
# A "diff -U0" comes in; for each line that it adds "FILE<tab>NUMBER<tab>TEXT" goes out,
# with one space for any white space in the text.
left > 0 && /^\+/ {
	text = substr($0, 2)
	gsub(/[ \t]+/, " ", text)
	sub(/^ /, "", text)
	print file "\t" number++ "\t" text
	left--
	next
}
/^\+\+\+ / { file = substr($2, 3) }
/^@@ / {
	split($3, range, ",")
	number = substr(range[1], 2) + 0
	left = range[2] == "" ? 1 : range[2] + 0
}
