# SPDX-License-Identifier: GPL-2.0
# Do the patches and the net differences change the same lines? What patches add
# to a file, less what they take away, is what its net difference adds, less
# what that takes away: line by line, and without the file. The patches come
# first on the command line, then sign=-1 and the differences.

BEGIN { sign = 1 }

/^diff --git / { path = substr($4, 3); next }
/^new file mode/ && sign > 0 { whole[path] = 1 }

/^@@ / {
	split($2, from, ",")
	split($3, to, ",")
	old = from[2] == "" ? 1 : from[2] + 0
	new = to[2] == "" ? 1 : to[2] + 0
	next
}

old + new > 0 {
	mark = substr($0, 1, 1)
	if (mark == "+") {
		new--
		net[path "\t" substr($0, 2)] += sign
	} else if (mark == "-") {
		old--
		net[path "\t" substr($0, 2)] -= sign
	} else if (mark == " " || mark == "") {
		old--
		new--
	}
	next
}

# Between hunks a difference has nothing to say.
sign < 0 && !/^(index |--- |\+\+\+ |new file|old mode|new mode|\\)/ {
	print FILENAME ": what is this line? " $0
	bad = 1
}

END {
	for (line in net) {
		split(line, part, "\t")
		if (net[line] && !(part[1] in whole)) {
			print part[1] ": " (net[line] > 0 ? "lacks" : "has too much of") \
				" a line of the patches: " substr(line, length(part[1]) + 2)
			bad = 1
		}
	}
	exit bad
}
