# SPDX-License-Identifier: GPL-2.0
# What a kernel keeps of the promise: reads harness/tables/contract and doc/defects.rst (the
# rows), harness/tables/cases (which case is about which row) and the results of a guest
# (tap.awk's), in this order, and prints for each row
#
#	ID	kept|broken|not asked	FAILED	PASSED	TEXT	CASES
#
# Cases that were skipped or not reached say nothing. CASES are those that failed, or that
# passed. A row is broken if a case of it failed.

BEGIN { FS = "\t" }

function row(id, text)
{
	ids[++rows] = id
	texts[id] = text
}

# "fixture.variant.case" of TAP, with or without the reason: the case as the table has it
function plain(name,	part, n)
{
	sub(/ - .*/, "", name)
	n = split(name, part, ".")
	return n < 3 ? name : part[1] "." part[n]
}

FILENAME ~ /contract$/ {
	if (!/^#/) {
		row($1, $3)
		if ($2 != "-")
			needs[$1] = $2
	}
	next
}

# Of a list-table: the item after the id, to the next one
FILENAME ~ /\.rst$/ {
	if (match($0, /^   \* - D[0-9]+$/)) {
		id = substr($0, 8)
		item = 0
	} else if (id != "" && /^     - /) {
		if (item++) {
			row(id, text)
			id = ""
		} else {
			text = substr($0, 8)
		}
	} else if (id != "" && item == 1 && /^       /) {
		text = text " " substr($0, 8)
	}
	next
}

FILENAME ~ /cases$/ {
	if (!/^#/)
		about[$1, $2] = $3
	next
}

$1 == "pass" || $1 == "fail" {
	program = $2
	# the same source, built twice
	sub(/_32$/, "", program)
	n = split(about[program, plain($3)], word, " ")
	for (i = 1; i <= n; i++) {
		counts[$1, word[i]]++
		name = $3
		sub(/ - .*/, "", name)
		sub(/^diskseq_/, "", $2)
		sub(/_test/, "", $2)
		cases[$1, word[i]] = cases[$1, word[i]] (cases[$1, word[i]] == "" ? "" : ", ") $2 ": " name
	}
}

END {
	for (i = 1; i <= rows; i++) {
		id = ids[i]
		failed = counts["fail", id] + 0
		passed = counts["pass", id] + 0
		verdict = failed ? "broken" : !passed ? "not asked" : "kept"
		text = texts[id]
		gsub(/``/, "", text)
		if (id in needs && !passed && !failed)
			text = text " (needs " needs[id] ")"
		print id "\t" verdict "\t" failed "\t" passed "\t" text "\t" cases[failed ? "fail" : "pass", id]
	}
}
