# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# The variables, by their table. Sourced by lib.sh.

# variables COMMAND: gives those that COMMAND reads their defaults, and checks them
# shellcheck disable=SC2154 # it is eval that sets the value
variables() {
	while IFS='	' read -r variables_name variables_commands variables_default variables_check _; do
		case " $variables_commands " in
		*" $1 "*) ;;
		*) continue ;;
		esac
		[ "$variables_default" = - ] ||
			eval "export $variables_name=\"\${$variables_name:-\$variables_default}\""
		eval "variables_value=\${$variables_name:-}"
		[ -z "$variables_value" ] || check_variable
	done <"$HARNESS/tables/variables"
}

# only_variables COMMAND: what it starts gets the variables that COMMAND reads, and no others
only_variables() {
	# shellcheck disable=SC2046 # words
	unset HOOK SHELL_ONLY PROGRAM $(awk -F '\t' -v command="$1" '
		/^#/ { next }
		(" " $2 " ") ~ (" (every|" command ") ") { reads[$1] }
		{ all[$1] }
		END { for (name in all) if (!(name in reads)) print name }' "$HARNESS/tables/variables")
	variables run
}

check_variable() {
	case $variables_check in
	-) ;;
	number | [0-9]*)
		case $variables_value in
		*[!0-9]* | 0*) die usage "$variables_name='$variables_value' is no number above 0" ;;
		esac
		[ "$variables_check" != number ] || return 0
		variables_most=${variables_check#*-}
		# Longer ones do not fit into what test compares.
		if [ "${#variables_value}" -gt "${#variables_most}" ] ||
		   [ "$variables_value" -gt "$variables_most" ]; then
			die usage "$variables_name='$variables_value' is more than $variables_most"
		fi ;;
	*)	case " $variables_check " in
		*" $variables_value "*) ;;
		*) die usage "unknown $variables_name '$variables_value' (there are: $variables_check)" ;;
		esac ;;
	esac
}

# variable_names all|guest: a line each, in the table's order; "guest": those that it gets
variable_names() {
	awk -F '\t' -v only="$1" '!/^#/ && (only == "all" || $5 == only) && !seen[$1]++ { print $1 }' "$HARNESS/tables/variables"
}
