# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# The series laid out by file, from a git repository that holds it: a new file
# whole, a file of the kernel's as its net difference. Sourced after lib.sh.

# The base that the folders at the top show, and those folders.
# shellcheck disable=SC2034 # for the scripts that source this
layout_base=v5.14
# shellcheck disable=SC2034
layout_dirs='block drivers fs include kernel lib Documentation tools'

# lay_out REPOSITORY FROM TO DIRECTORY
lay_out() {
	git -C "$1" diff --no-renames --name-status "$2" "$3" |
	while read -r layout_status layout_path; do
		mkdir -p "$4/$(dirname "$layout_path")"
		case $layout_status in
		A)	git -C "$1" show "$3:$layout_path" >"$4/$layout_path"
			case $(git -C "$1" ls-tree "$3" "$layout_path") in
			100755*) chmod +x "$4/$layout_path" ;;
			esac ;;
		*)	git -C "$1" diff --no-renames --full-index "$2" "$3" -- "$layout_path" \
				>"$4/$layout_path.diff" ;;
		esac
	done
}
