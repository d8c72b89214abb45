# SPDX-License-Identifier: GPL-2.0
# Reads the TAP of a guest, kselftest's: each test's own TAP stands in it as
# comments. Prints a line for every test case,
#
#	pass|fail|skip	PROGRAM	CASE[ - REASON]
#
# and at last "complete" or "truncated". A program without TAP of its own is one
# case; cases that a program announced and did not report have failed, and a
# program that failed although none of its cases did counts as one more failed case.

function result(what, name)
{
	print what "\t" program "\t" name
	cases++
	bad += what == "fail"
}

# "ok 3 name # SKIP reason": status in what, the rest in name and reason
function parse(line)
{
	what = line ~ /^ok/ ? "pass" : "fail"
	sub(/^(not )?ok +[0-9]* *(- )?/, "", line)
	reason = ""
	if (match(line, /#? *SKIP */) && line ~ /(^|# *)SKIP/) {
		reason = substr(line, RSTART + RLENGTH)
		line = substr(line, 1, RSTART - 1)
		if (what == "pass")
			what = "skip"
	}
	sub(/ +$/, "", line)
	name = line
}

{ sub(/\r$/, "") }

/^1\.\.[0-9]+$/ { plan = substr($0, 4) + 0; planned = 1; next }
/^# selftests: / { program = $NF; cases = 0; bad = 0; announced = 0; running = ""; next }
/^# 1\.\.[0-9]+$/ { announced = substr($0, 6) + 0; next }
/^# # +RUN / { running = $4; next }

/^# (not )?ok / {
	parse(substr($0, 3))
	# kselftest_harness.h leaves the name out when it skips.
	if (name == "")
		name = running == "" ? "?" : running
	result(what, name (reason == "" ? "" : " - " reason))
	running = ""
	next
}

/^(not )?ok / {
	outer++
	failed = $0 ~ /^not/
	why = match($0, / # .*/) ? substr($0, RSTART + 3) : ""
	if (!cases && !announced) {
		parse($0)
		result(what, program (why == "" ? "" : " - " why))
	} else if (cases < announced) {
		missing = announced - cases
		while (cases < announced) {
			result("fail", (running == "" ? "case " (cases + 1) : running) " - not reported" \
			       (why == "" ? "" : " (" why ")"))
			running = ""
		}
	} else if (failed && (why !~ /^exit=/ || !bad)) {
		result("fail", program " - " why)
	}
	program = ""
	next
}

/^# end of results$/ { ended = 1 }

END {
	if (ended && planned && outer == plan && program == "")
		print "complete"
	else
		print "truncated" (program == "" ? "" : "\t" program)
}
