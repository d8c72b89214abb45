# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# The series of a base: its patches, by topic. A topic is a folder of patches/BASE,
# or patches/selftests, which all bases share. Sourced after lib.sh.

# series BASE [TOPIC,...]: the patches in their order, a path a line: all, or those of
# these topics
series() {
	awk -F / -v dir="$PATCHES" -v only=",${2:-}," '
		!/^(#|$)/ && (only == ",," || index(only, "," $(NF - 1) ",")) { print dir "/" $0 }
	' "$PATCHES/$1/series"
}

# The lines of the input as words, for eval "set -- $(... | words)"
words() {
	sed "s/'/'\\\\''/g; s/^/'/; s/\$/'/" | tr '\n' ' '
}

# topics BASE: the topics in their order, a line each
topics() {
	awk -F / '!/^(#|$)/ { print $(NF - 1) }' "$PATCHES/$1/series" | uniq
}

# topic_dir BASE TOPIC: where its patches are, below $PATCHES
topic_dir() {
	case $2 in
	selftests) echo selftests ;;
	*) echo "$1/$2" ;;
	esac
}

# cover_words BASE TOPIC FIELD: what "FIELD:" of the cover letter lists, a line each;
# the list goes on in lines that begin with a blank
cover_words() {
	cover_letter=$PATCHES/$(topic_dir "$1" "$2")/0000-cover-letter.txt
	[ -f "$cover_letter" ] || return 0
	awk -v field="$3:" '
		listed && !/^[ \t]/ { exit }
		$1 == field { listed = 1; $1 = "" }
		listed { print }
	' "$cover_letter" | tr -s ', \t' '\n' | grep -v -e '^$' -e '^nothing$' || :
}

# cover_list REPOSITORY FROM TO: the part of a cover letter that is generated
cover_list() {
	git -C "$1" log --reverse --format=%s "$2..$3" | awk '{ printf "%3d  %s\n", NR, $0 }'
	echo
	git -C "$1" diff --no-renames --stat=72 --summary "$2" "$3"
}

# with_needs BASE TOPIC,... FIELD...: these topics and what those fields of their cover
# letters name, "TOPIC,...". A topic needs only what comes before it.
#   Needs        the topics without which it does not apply or build
#   Tests-need   those without which its tests find nothing to look at
with_needs() {
	with_needs_base=$1
	with_needs=",$2,"
	shift 2
	for with_needs_topic in $(topics "$with_needs_base" | tac); do
		case $with_needs in
		*",$with_needs_topic,"*) ;;
		*) continue ;;
		esac
		for with_needs_field; do
			with_needs=$with_needs$(cover_words "$with_needs_base" "$with_needs_topic" \
				"$with_needs_field" | tr '\n' ,)
		done
	done
	for with_needs_topic in $(topics "$with_needs_base"); do
		case $with_needs in
		*",$with_needs_topic,"*) printf '%s,' "$with_needs_topic" ;;
		esac
	done | sed 's/,$//'
}

# topic_tests BASE TOPIC,...: the tests that their cover letters name, as TEST= takes
# them, with the 32-bit ones; one that needs nothing if they name none
topic_tests() {
	for topic_tests_topic in $(echo "$2" | tr , ' '); do
		cover_words "$1" "$topic_tests_topic" Tests
	done | sort -u | sed 's/$/*/' | tr '\n' , | sed 's/,$//' | grep . || echo 'diskseq_read_test*'
}

# known_topics BASE TOPIC,...
known_topics() {
	known_topics=$(topics "$1" | grep -vxF selftests)
	for known_topic in $(echo "$2" | tr , ' '); do
		echo "$known_topics" | grep -qxF -e "$known_topic" ||
			die usage "unknown TOPIC '$known_topic' ($1 has: $(echo "$known_topics" | xargs))"
	done
}
