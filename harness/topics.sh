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

# with_needs BASE TOPIC,...: these topics and what they need, "TOPIC,...". A topic
# needs only what comes before it.
with_needs() {
	with_needs=",$2,"
	for with_needs_topic in $(topics "$1" | tac); do
		case $with_needs in
		*",$with_needs_topic,"*)
			with_needs=$with_needs$(cover_words "$1" "$with_needs_topic" Needs | tr '\n' ,) ;;
		esac
	done
	for with_needs_topic in $(topics "$1"); do
		case $with_needs in
		*",$with_needs_topic,"*) printf '%s,' "$with_needs_topic" ;;
		esac
	done | sed 's/,$//'
}

# known_topics BASE TOPIC,...
known_topics() {
	for known_topic in $(echo "$2" | tr , ' '); do
		topics "$1" | grep -v '^selftests$' | grep -qxF -e "$known_topic" ||
			die usage "unknown TOPIC '$known_topic' ($1 has: $(topics "$1" | grep -v '^selftests$' | xargs))"
	done
}
