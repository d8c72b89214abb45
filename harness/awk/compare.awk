# SPDX-License-Identifier: GPL-2.0
# The table of make compare, as text or as rst (form), of the kernels that the input lists:
# name, short label, label, and why it could not be tested; $legs/NAME/promise is the
# output of promise.awk for it.

BEGIN { FS = "\t" }

{
	names[++kernels] = $1
	shorts[$1] = $2
	labels[$1] = $3
	reasons[$1] = $4
	if ($4 != "")
		next
	name = $1
	file = legs "/" name "/promise"
	while ((getline <file) > 0) {
		if (!($1 in texts)) {
			ids[++rows] = $1
			texts[$1] = $5
		}
		verdicts[$1, name] = $2
		n[$2, name]++
	}
	close(file)
}

function cells(mark, text)
{
	print "   " mark " - " text
}

function verdict(id, name)
{
	return reasons[name] != "" ? "-" : verdicts[id, name] == "not asked" ? "." : verdicts[id, name]
}

function as_text(	i, k, name, text)
{
	print "measured on " date
	print ""
	printf "%-58s %5s %7s %9s\n", "", "kept", "broken", "not asked"
	for (k = 1; k <= kernels; k++) {
		name = names[k]
		if (reasons[name] != "")
			printf "%-58s not tested: %s\n", labels[name], reasons[name]
		else
			printf "%-58s %5d %7d %9d\n", labels[name], n["kept", name], n["broken", name], n["not asked", name]
	}
	print ""
	printf "%-5s", ""
	for (k = 1; k <= kernels; k++)
		printf "%-10s", shorts[names[k]]
	print ""
	for (i = 1; i <= rows; i++) {
		printf "%-5s", ids[i]
		for (k = 1; k <= kernels; k++)
			printf "%-10s", verdict(ids[i], names[k])
		text = texts[ids[i]]
		print (length(text) > 90 ? substr(text, 1, 87) "..." : text)
	}
}

function as_rst(	i, k, name, width)
{
	print ".. SPDX-License-Identifier: GPL-2.0\n"
	print "=============\nNewer kernels\n=============\n"
	print "Kernels have had a disk sequence number since 5.15. This page shows which parts of the"
	print "promise Debian's unmodified kernels keep, beside a kernel with the series (\"+\")."
	print "``make compare`` ran the kselftests on each of them on " date ", and wrote this"
	print "page (``out/compare/newer-kernels.rst``); ``make run KERNEL=debian:SUITE`` shows the"
	print "cases behind a column. The rows C1 to C12 are the parts of the promise"
	print "(``harness/tables/contract``), the others the defects of ``doc/defects.rst``. A row is"
	print "\"broken\" if one of its tests fails. It is not asked (\".\") if all of its tests are"
	print "skipped, because the kernel lacks a driver or an option, or behaves differently by"
	print "design. \"kept\" in the row of a defect means that it did not occur; one that depends on"
	print "a race can occur in another run. Since 6.11 ``LOOP_CLR_FD`` only marks a loop device,"
	print "and the last close detaches the file. If the caller was the only opener, an open and"
	print "``LOOP_GET_STATUS64`` fail until that close. Tests that need a detach under an open"
	print "descriptor are skipped there."
	print ""
	print ".. list-table::\n   :header-rows: 1\n   :widths: 55 15 15 15\n"
	cells("*", "Kernel"); cells(" ", "kept"); cells(" ", "broken"); cells(" ", "not asked")
	for (k = 1; k <= kernels; k++) {
		name = names[k]
		cells("*", labels[name] (reasons[name] != "" ? ": not tested: " reasons[name] : ""))
		cells(" ", reasons[name] != "" ? "-" : n["kept", name] + 0)
		cells(" ", reasons[name] != "" ? "-" : n["broken", name] + 0)
		cells(" ", reasons[name] != "" ? "-" : n["not asked", name] + 0)
	}
	print ""
	width = "   :widths: 5 55"
	for (k = 1; k <= kernels; k++)
		width = width " 10"
	print ".. list-table::\n   :header-rows: 1\n" width "\n"
	cells("*", "Id"); cells(" ", "Promise or defect")
	for (k = 1; k <= kernels; k++)
		cells(" ", shorts[names[k]])
	for (i = 1; i <= rows; i++) {
		cells("*", ids[i])
		cells(" ", texts[ids[i]])
		for (k = 1; k <= kernels; k++)
			cells(" ", verdict(ids[i], names[k]))
	}
}

END {
	if (form == "rst")
		as_rst()
	else
		as_text()
}
