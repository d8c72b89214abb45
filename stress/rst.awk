# SPDX-License-Identifier: GPL-2.0
# The instructions in bench.txt (of harness/commands/bench.sh) as tables for
# doc/figures.rst.

function cell(mark, text)
{
	print "   " mark " - " (text == "-" ? "none" : text)
}

# 1454829145 is hard to read, and its last digits are noise.
function figure(n)
{
	return n > 1e6 ? sprintf("%.1f million", n / 1e6) : n
}

/^instructions/ {
	on = 1
	print ".. list-table::\n   :header-rows: 1\n   :widths: 46 18 18 18\n"
	cell("*", "Instructions")
	cell(" ", "without")
	cell(" ", "with")
	cell(" ", "ratio")
	next
}

!NF { on = 0 }

on {
	text = substr($0, 3, 42)
	sub(/ +$/, "", text)
	cell("*", text)
	split(substr($0, 45), field, " ")
	cell(" ", figure(field[1]))
	cell(" ", figure(field[2]))
	cell(" ", field[1] == "-" ? "-" : field[3])
}
