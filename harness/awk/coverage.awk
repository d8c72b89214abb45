# SPDX-License-Identifier: GPL-2.0
# What gcov printed comes in, source by source, of several objects one after the
# other; a table of the lines in the file ADDED ("FILE NUMBER") goes out, and those
# that no object executed. EXCUSED has lines "FILE: TEXT" that need not be, after
# a comment that says why. Exits with 1 if there are others.

BEGIN {
	while ((getline line < added) > 0)
		is_added[line] = 1
	while ((getline line < excused) > 0) {
		gsub(/[ \t]+/, " ", line)
		if (line !~ /^(#| ?$)/)
			is_excused[line] = 1
	}
}

/^ *-: *0:Source:/ {
	source = $0
	sub(/^[^:]*: *0:Source:/, "", source)
	sub(/^(\.\.\/)+/, "", source)
	sub(/^\.\//, "", source)
	at = ""
	next
}

/^ *[-#=0-9*]+: *[0-9]+:/ {
	count = $0
	sub(/:.*/, "", count)
	gsub(/[ *]/, "", count)
	number = $0
	sub(/^[^:]*: */, "", number)
	text = number
	sub(/:.*/, "", number)
	sub(/^[0-9]*:/, "", text)
	at = source " " number
	if (!(at in is_added)) {
		at = ""
		next
	}
	if (count == "-")
		next
	if (!(at in executed)) {
		order[++lines] = at
		file[at] = source
		line_text[at] = text
		executed[at] = 0
	}
	executed[at] += count + 0
	branch_number = 0
	next
}

/^branch / && at != "" {
	b = at " " ++branch_number
	if (!(b in branch_file)) {
		branch_file[b] = source
		taken[b] = 0
	}
	if ($3 == "taken")
		taken[b] += $4
}

END {
	for (i = 1; i <= lines; i++) {
		at = order[i]
		if (!(file[at] in total))
			files[++n] = file[at]
		total[file[at]]++
		if (executed[at]) {
			ran[file[at]]++
			continue
		}
		short = line_text[at]
		gsub(/[ \t]+/, " ", short)
		sub(/^ /, "", short)
		if ((file[at] ": " short) in is_excused) {
			pardoned[file[at]]++
			continue
		}
		missed[++misses] = file[at] ":" substr(at, length(file[at]) + 2) ": " short
	}
	for (b in branch_file) {
		branches[branch_file[b]]++
		if (taken[b])
			went[branch_file[b]]++
	}
	printf "%-32s %8s %8s %8s %9s %6s\n", "file", "lines", "executed", "excused", "branches", "taken"
	for (i = 1; i <= n; i++) {
		f = files[i]
		printf "%-32s %8d %8d %8d %9d %6d\n", f, total[f], ran[f], pardoned[f], branches[f], went[f]
		all += total[f]
		all_ran += ran[f]
		all_pardoned += pardoned[f]
		all_branches += branches[f]
		all_went += went[f]
	}
	printf "%-32s %8d %8d %8d %9d %6d\n", "all", all, all_ran, all_pardoned, all_branches, all_went
	for (i = 1; i <= misses; i++)
		print "not executed: " missed[i]
	exit misses > 0
}
