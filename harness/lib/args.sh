# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# For scripts that are called as "SCRIPT NAME=VALUE...": sets those variables, and
# then sources lib.sh and base.sh, which look at them.
# Sourced first: . "$(dirname "$0")/../lib/args.sh"

args_bad=
for args_word; do
	case $args_word in
	[A-Z]*=*) export "${args_word?}" ;;
	*) args_bad=1 && break ;;
	esac
done

. "$(dirname "$0")/../lib/lib.sh"
. "$HARNESS/lib/base.sh"

[ -z "$args_bad" ] || die usage "'$args_word' is not NAME=VALUE (see make help-variables)"
