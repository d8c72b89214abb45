#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Which of the added lines were executed, from what gcov prints.
. "$(dirname "$0")/lib.sh"

cat >"$T/diff" <<'E2'
--- a/block/a.c
+++ b/block/a.c
@@ -3,0 +4,2 @@ int f(void)
+	one();
+	two();
@@ -9 +11 @@ int g(void)
-	old();
+	three();
@@ -20,2 +22,0 @@ int h(void)
-	gone();
-	gone();
E2
check "the lines that a diff adds" sh -c 'awk -f "$1" "$2" | tr "\n" ,' sh "$HARNESS/awk/added.awk" "$T/diff"
said "are those of the new file" '^block/a.c 4,block/a.c 5,block/a.c 11,$'
awk -f "$HARNESS/awk/added.awk" "$T/diff" >"$T/added"

# coverage EXCUSED: of two objects, each of which has the source
coverage() {
	awk -v added="$T/added" -v excused="$1" -f "$HARNESS/awk/coverage.awk" "$T/gcov"
}
cat >"$T/gcov" <<'E2'
        -:    0:Source:../block/a.c
        -:    0:Graph:/b/block/a.gcno
     2345:    3:	other();
    #####:    4:	one();
branch  0 never executed
        7:    5:	two();
branch  0 taken 7 (fallthrough)
branch  1 taken 0
    #####:   11:	three();
        -:    0:Source:./include/linux/b.h
    #####:    4:	not ours
        -:    0:Source:../block/a.c
       1*:    4:	one();
branch  0 taken 1
    #####:   11:	three();
E2
: >"$T/none"
not_all() { ! coverage "$T/none"; }
check "a line that no object executed is a failure" not_all
said "it is named" '^not executed: block/a.c:11: three\(\);$'
said "one that an object executed counts" '^block/a.c +3 +2 +0 +3 +2$'
printf '# because\nblock/a.c: three();\n' >"$T/excused"
check "an excused line is none" coverage "$T/excused"
said "and is counted" '^all +3 +2 +1 +3 +2$'
finish
