# SPDX-License-Identifier: GPL-2.0
# The table of harness/commands/bench.sh, from stress/goals and bench.tsv: kernel, leg,
# round, item, elapsed, busy. Of instructions the median of all blocks counts; of
# times the least, which the rest of the machine disturbed least.

FNR == 1 { file++ }
/^#/ || !NF { next }

file == 1 {
	item[++items] = $1
	kind[$1] = $2
	goal["instructions", $1] = $3
	goal["time", $1] = $4
	text[$1] = $5
	next
}

{
	add($1 SUBSEP $2 SUBSEP $4, $2 == "instructions" ? $6 : $5)
	if ($2 == "instructions") {
		add($1 SUBSEP "round" $3 SUBSEP $4, $6)
		add($1 SUBSEP "virtual" SUBSEP $4, $5)
		if ($3 > rounds)
			rounds = $3
	}
}

function add(key, value)
{
	values[key, ++n[key]] = value
}

function median(kernel, leg, name,   key, i, j, v, count)
{
	key = kernel SUBSEP leg SUBSEP name
	count = n[key]
	if (!count)
		return 0
	for (i = 1; i <= count; i++) {
		v = values[key, i]
		for (j = i - 1; j > 0 && sorted[j] > v; j--)
			sorted[j + 1] = sorted[j]
		sorted[j + 1] = v
	}
	return count % 2 ? sorted[(count + 1) / 2] : (sorted[count / 2] + sorted[count / 2 + 1]) / 2
}

function least(kernel, leg, name,   key, i, v)
{
	key = kernel SUBSEP leg SUBSEP name
	v = values[key, 1]
	for (i = 2; i <= n[key]; i++)
		if (values[key, i] < v)
			v = values[key, i]
	return v + 0
}

function figure_of(kernel, leg, name)
{
	return leg ~ /^time/ ? least(kernel, leg, name) : median(kernel, leg, name)
}

function verdict(ratio, limit)
{
	return limit == "-" || limit == "" || !ratio ? "" : ratio <= limit ? "met" : "missed"
}

function figure(value)
{
	return value ? sprintf(value < 100 ? "%.1f" : "%.0f", value) : "-"
}

function row(name, base, series, ratio, limit)
{
	printf "  %-42s %12s %12s %8s %6s %s\n", text[name], figure(base), figure(series),
	       ratio ? sprintf("%.3f", ratio) : "-", limit == "-" ? "" : limit, verdict(ratio, limit)
}

function ratio(a, b)
{
	return a && b ? a / b : 0
}

function many(name)
{
	return name ~ /-many$/
}

function head(title)
{
	printf "\n%-44s %12s %12s %8s %6s\n", title, "unpatched", "patched", "ratio", "goal"
}

# The leg's figures of the items of KIND
function table(title, leg, goals, k,   i, name, base, series, a, b, cheapest)
{
	for (i = 1; i <= items; i++) {
		name = item[i]
		base = figure_of("base", leg, name)
		series = figure_of("series", leg, name)
		if (kind[name] != k || many(name) || !series)
			continue
		if (title)
			head(title)
		title = ""
		if (name == "getdiskseq") {
			a = figure_of("series", leg, "getsize64")
			b = figure_of("series", leg, "roget")
			cheapest = a && a < b ? a : b
			row(name, 0, series, ratio(series, cheapest), goal[goals, name])
		} else {
			row(name, base, series, ratio(series, base), goal[goals, name])
		}
	}
}

# 512 disks against 8, by how much on either kernel
function growth(leg,   i, name, few, base, series)
{
	head("growth from 8 to 512 disks, instructions")
	for (i = 1; i <= items; i++) {
		name = item[i]
		if (!many(name))
			continue
		few = name
		sub(/-many$/, "", few)
		base = ratio(median("base", leg, name), median("base", leg, few))
		series = ratio(median("series", leg, name), median("series", leg, few))
		if (series)
			printf "  %-42s %12s %12.3f %8.3f %6s %s\n", text[name], base ? sprintf("%.3f", base) : "-", series,
			       base ? series / base : series, goal["instructions", name],
			       verdict(base ? series / base : series, goal["instructions", name])
	}
}

# The same kernel, booted anew: by how much its instructions differ at most
function repeats(   i, k, r, name, kernel, low, high, v, worst, where)
{
	for (i = 1; i <= items; i++)
		for (k = 1; k <= 2; k++) {
			name = item[i]
			kernel = k == 1 ? "base" : "series"
			low = high = median(kernel, "round1", name)
			for (r = 2; r <= rounds; r++) {
				v = median(kernel, "round" r, name)
				low = v < low ? v : low
				high = v > high ? v : high
			}
			if (low && high / low - 1 >= worst) {
				worst = high / low - 1
				where = text[name]
			}
		}
	if (rounds > 1)
		printf "\nThe instructions of %d boots of one kernel differ by at most %.2f %% (%s).\n", rounds, worst * 100, where
}

END {
	if (rounds) {
		table("instructions", "instructions", "instructions", 1)
		growth("instructions")
		repeats()
		table("virtual time, one processor, 1 ns an instruction", "virtual", "none", 1)
	}
	table("time (ns), 2 processors", "time-2", "time", 1)
	for (cpus = 2; cpus <= 8; cpus *= 2)
		table("time (ns), " cpus " processors, a thread on each", "time-" cpus, "time", "n")
}
