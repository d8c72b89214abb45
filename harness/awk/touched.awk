# SPDX-License-Identifier: GPL-2.0
# Prints the functions that patches add or change. A report that names none of them is
# about other code.

function name_of(line)
{
	if (!match(line, /[A-Za-z_][A-Za-z0-9_]* *\(/))
		return ""
	return substr(line, RSTART, RLENGTH - 1)
}

/^diff --git / { code = $NF ~ /\.[ch]$/ && $NF !~ /^b\/tools\//; hunk = 0; next }

/^@@ / {
	hunk = code
	rest = $0
	sub(/^@@ [^@]* @@ ?/, "", rest)
	current = name_of(rest)
	next
}

/^(-- $|---|\+\+\+|From )/ { hunk = 0 }

hunk {
	# What starts in the first column is a definition, or none of a function.
	if ($0 ~ /^[ +][A-Za-z_].*\(/)
		current = $0 ~ /;$/ ? "" : name_of(substr($0, 2))
	else if ($0 ~ /^[ +]}/)
		ends = 1
	if ($0 ~ /^[+-]/ && current != "")
		print current
	if (ends)
		current = ends = ""
}
