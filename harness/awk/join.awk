# SPDX-License-Identifier: GPL-2.0
# Joins the TAP of GUESTS guests that run side by side into one of PLAN programs: reads
# "GUEST LINE" as the lines come, and writes to the file TAP what each program printed in
# one piece when that has ended, numbered anew. It is printed as well, without the lines
# of the cases' progress unless V is set.

function out(line)
{
	print line >tap
	if (V != "" || line !~ /^# #  /)
		print line
}

function out_program(guest,	line, lines, n, i)
{
	n = split(held[guest], lines, "\n")
	for (i = 1; i < n; i++)
		out(lines[i])
	delete held[guest]
	fflush()
	fflush(tap)
}

BEGIN {
	out("TAP version 13")
	out("1.." plan)
	fflush()
}

# Lines that are not TAP: what several guests print is printed once.
!/^[0-9]+ / {
	if (!said[$0]++)
		print
	next
}

{
	guest = $1
	line = substr($0, length($1) + 2)
}

line ~ /^TAP version / || line ~ /^1\.\.[0-9]+$/ { next }
line == "# end of results" { ended++; next }

line ~ /^(not )?ok [0-9]+ / { sub(/ok [0-9]+ /, "ok " ++number " ", line) }
{ held[guest] = held[guest] line "\n" }
line ~ /^# time: / { out_program(guest) }

# What a guest that went away has left is in the file too.
END {
	for (guest in held)
		out_program(guest)
	if (ended == guests)
		out("# end of results")
}
