# SPDX-License-Identifier: GPL-2.0
# What gcov counted comes in, "FILE<tab>NUMBER<tab>COUNT" a line and then the count of each
# of its branches: of several objects, one after the other. A table of the lines in the
# file ADDED (of added.awk) goes out, and those that no object executed. EXCUSED has
# lines "FILE: TEXT" that need not be, after a comment with the reason. Exits with 1 if
# there are others.

BEGIN {
	FS = "\t"
	while ((getline line < added) > 0) {
		split(line, part, "\t")
		text[part[1] ":" part[2]] = part[3]
	}
	while ((getline line < excused) > 0)
		if (line !~ /^(#|$)/)
			is_excused[line]
}

# gcov names sources as the compiler did.
{ sub(/^(\.\.?\/)+/, "", $1) }

!(($1 ":" $2) in text) { next }

{
	at = $1 ":" $2
	if (!(at in executed)) {
		order[++lines] = at
		file[at] = $1
	}
	executed[at] += $3
	for (i = 4; i <= NF; i++)
		taken[at, i] += $i
}

END {
	for (i = 1; i <= lines; i++) {
		at = order[i]
		f = file[at]
		if (!(f in total))
			files[++n] = f
		total[f]++
		if (executed[at])
			ran[f]++
		else if ((f ": " text[at]) in is_excused)
			pardoned[f]++
		else
			missed[++misses] = at ": " text[at]
	}
	for (branch in taken) {
		split(branch, part, SUBSEP)
		branches[file[part[1]]]++
		went[file[part[1]]] += taken[branch] > 0
	}
	files[++n] = "all"
	printf "%-32s %8s %8s %8s %9s %6s\n", "file", "lines", "executed", "excused", "branches", "taken"
	for (i = 1; i <= n; i++) {
		f = files[i]
		printf "%-32s %8d %8d %8d %9d %6d\n", f, total[f], ran[f], pardoned[f], branches[f], went[f]
		total["all"] += total[f]
		ran["all"] += ran[f]
		pardoned["all"] += pardoned[f]
		branches["all"] += branches[f]
		went["all"] += went[f]
	}
	for (i = 1; i <= misses; i++)
		print "not executed: " missed[i]
	exit misses > 0
}
