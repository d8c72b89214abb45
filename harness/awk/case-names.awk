# SPDX-License-Identifier: GPL-2.0
# Prints "PROGRAM<tab>FIXTURE.CASE" for each case in a selftest's source, or in the patches
# that add them. A name may be on the line after its macro.

/^\+\+\+ b\// || FNR == 1 {
	program = $0 ~ /^\+\+\+ b\// ? $2 : FILENAME
	sub(/.*\//, "", program)
	program = program ~ /_test\.c$/ ? substr(program, 1, length(program) - 2) : ""
}
program != "" && match($0, /^\+?TEST(_F)?(_TIMEOUT|_SIGNAL)?\(/) {
	fixture = $0 ~ /TEST_F/
	split(substr($0, RLENGTH + 1), word, /[,) \t]+/)
	print program "\t" (fixture ? word[1] "." word[2] : "global." word[1])
}
