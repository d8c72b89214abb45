# SPDX-License-Identifier: GPL-2.0
# What a kernel keeps of the promise: reads harness/tables/contract and doc/defects.rst (the
# rows), harness/tables/cases (which case is about which row), and of a guest results.tap
# and results (tap.awk's), in this order, and prints for each row
#
#	ID	kept|broken|not asked	FAILED	PASSED	TEXT	CASES
#
# Cases that were skipped or not reached do not count. CASES are those that failed, or that
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
	if (/^@/)
		groups[$1] = $2
	else if (!/^#/)
		about[$1, $2] = $3
	next
}

# What the guest printed for each case: after its RUN line, up to the next
FILENAME ~ /\.tap$/ {
	if (match($0, /^# selftests: block: /)) {
		program = substr($0, RLENGTH + 1)
	} else if (/^# #  RUN  /) {
		split($0, word, " ")
		running = word[4]
	} else if (/^# # [a-z0-9_]+\.[ch]:[0-9]+:/) {
		messages[program, running] = messages[program, running] $0 "\n"
	}
	next
}

function shown(name)
{
	sub(/^diskseq_/, "", name)
	sub(/_test/, "", name)
	return name
}

# judge(verdict of the case, its name, what it is about)
function judge(what, name, lines,	word, n, i, id, regex)
{
	n = split(lines, word, " ")
	for (i = 1; i <= n; i++) {
		if (word[i] in groups) {
			judge(what, name, groups[word[i]])
			continue
		}
		id = word[i]
		regex = ""
		if (match(id, /:/)) {
			regex = substr(id, RSTART + 1)
			id = substr(id, 1, RSTART - 1)
		}
		if (what == "fail" && regex != "" && messages[$2, name] !~ regex)
			continue
		counts[what, id]++
		cases[what, id] = cases[what, id] (cases[what, id] == "" ? "" : ", ") shown($2) ": " name
	}
}

$1 == "pass" || $1 == "fail" {
	program = $2
	# the same source, built twice
	sub(/_32$/, "", program)
	name = $3
	sub(/ - .*/, "", name)
	judge($1, name, about[program, plain(name)])
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
