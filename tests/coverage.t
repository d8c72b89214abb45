#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Which of the added lines were executed, from what gcov counted.
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
said "are those of the new file" '^block/a.c	4	one\(\);,block/a.c	5	two\(\);,block/a.c	11	three\(\);,$'
awk -f "$HARNESS/awk/added.awk" "$T/diff" >"$T/added"

# coverage EXCUSED: of two objects, each of which has the source
coverage() {
	awk -v added="$T/added" -v excused="$1" -f "$HARNESS/awk/coverage.awk" "$T/gcov"
}
tr ' ' '\t' >"$T/gcov" <<'E2'
../block/a.c 3 2345
../block/a.c 4 0 0 0
../block/a.c 5 7 7 0
../block/a.c 11 0
./include/linux/b.h 4 0
../block/a.c 4 1 1 0
../block/a.c 11 0
E2
: >"$T/none"
not_all() { ! coverage "$T/none"; }
check "a line that no object executed is a failure" not_all
said "it is named" '^not executed: block/a.c:11: three\(\);$'
said "one that an object executed counts" '^block/a.c +3 +2 +0 +4 +2$'
printf '# because\nblock/a.c: three();\n' >"$T/excused"
check "an excused line is none" coverage "$T/excused"
said "and is counted" '^all +3 +2 +1 +4 +2$'
finish
