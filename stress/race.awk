# SPDX-License-Identifier: GPL-2.0
# The table of harness/commands/race.sh, from its race.tsv: kernel, way, and the fields in
# the order in which stress/race.c prints them.

BEGIN {
	row("", "", "took another's", "", "waited in vain", "", "lost", "knew of", "", "nothing", "ms until it went on")
	row("kernel", "way", "event", "image", "dropped", "unsent", "events", "loss", "reuse", "to read", " median     p99     max")
}

{
	diskseq = $2 == "diskseq"
	row($1 == "series" ? "patched" : "unpatched", $2, $4, $5, $6, $7, $8, diskseq ? $9 : "-",
	    diskseq ? $10 : "-", diskseq ? "-" : $11, sprintf("%7.1f %7.1f %7.1f", $14, $15, $16))
}

function row(kernel, way, event, image, dropped, unsent, lossy, missed, gone, nothing, ms)
{
	if (image == "" && event != "")
		printf "%-9s %-7s  %-14s  %-14s  %6s  %-12s  %7s  %s\n", kernel, way, event, dropped, lossy, missed, nothing, ms
	else
		printf "%-9s %-7s  %6s  %6s  %6s  %6s  %6s  %5s  %5s  %7s  %s\n", kernel, way, event, image,
		       dropped, unsent, lossy, missed, gone, nothing, ms
}
