# SPDX-License-Identifier: GPL-2.0
# The patches of all bases come in, base by base, those of the first one first; the table
# of patches/differences.rst goes out: what the other bases' patches are, seen from the
# first base that has such a patch. Two are the same patch if they are in the same topic
# and their names are the same or, where those occur once only, begin with the same two
# words. The order of lines does not count.

FNR == 1 {
	parts = split(FILENAME, path, "/")
	base = path[parts - 2]
	topic = path[parts - 1]
	if (!seen_base[base]++)
		base_name[++bases] = base
	if (!seen_topic[topic]++)
		topic_name[++topics] = topic
	name = topic "/" substr(path[parts], 6)
	split(substr(path[parts], 6), word, "-")
	short = topic "/" word[1] "-" word[2]
	patch = ++patches
	base_of[patch] = base
	name_of[patch] = name
	short_of[patch] = short
	with_name[name]++
	hunk = in_subject = 0
}

/^Subject: / && !(patch in subject) {
	sub(/^Subject: (\[[^]]*\] )?/, "")
	subject[patch] = $0
	in_subject = 1
	next
}
in_subject && /^ / { subject[patch] = subject[patch] $0; next }
{ in_subject = 0 }

/^diff --git / { hunk = 0 }
hunk && /^[-+]/ {
	lines[patch]++
	if (!count[patch, $0]++)
		changed[patch, ++kinds[patch]] = $0
}
/^@@ / { hunk = 1 }

# How many lines of patch A does B not have?
function lacking(a, b,	i, line, n)
{
	for (i = 1; i <= kinds[a]; i++) {
		line = changed[a, i]
		if (count[a, line] > count[b, line])
			n += count[a, line] - count[b, line]
	}
	return n + 0
}

function row(first, cells)
{
	row_line = sprintf("%-74s%s", first, cells)
	sub(/ +$/, "", row_line)
	print row_line
}

END {
	for (p = 1; p <= patches; p++) {
		key = with_name[name_of[p]] > 1 ? name_of[p] : short_of[p]
		if (!((key, "first") in member)) {
			order[++rows] = key
			member[key, "first"] = p
		}
		member[key, base_of[p]] = p
	}
	for (b = 1; b <= bases; b++) {
		rule = rule "=========  "
		head = head sprintf("%-11s", base_name[b])
	}
	line = sprintf("%72s", "")
	gsub(/ /, "=", line)
	row(line, rule)
	row("patch", head)
	row(line, rule)
	for (t = 1; t <= topics; t++) {
		row("**" topic_name[t] "**", "")
		for (r = 1; r <= rows; r++) {
			first = member[order[r], "first"]
			if (index(order[r], topic_name[t] "/") != 1)
				continue
			cells = ""
			for (b = 1; b <= bases; b++) {
				other = member[order[r], base_name[b]]
				if (!other) {
					cell = "none"
				} else if (other == first) {
					cell = lines[first]
				} else {
					less = lacking(first, other)
					more = lacking(other, first)
					cell = less + more ? "-" less " +" more : "same"
				}
				cells = cells sprintf("%-11s", cell)
			}
			row(subject[first], cells)
		}
	}
	row(line, rule)
}
