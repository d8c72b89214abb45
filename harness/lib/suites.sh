# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# The Debian releases of make userland, by their table. Sourced after lib.sh.

# suites all|each|first|none: those that make check boots for that (see the table)
suites() {
	awk -v bases="$1" '!/^#/ && NF && (bases == "all" || $2 == bases) { print $1 }' \
		"$HARNESS/tables/suites" | xargs
}

# choose_suite: SUITE, or the default
choose_suite() {
	SUITE=${SUITE:-$(suites all | cut -d' ' -f1)}
	case " $(suites all) " in
	*" $SUITE "*) ;;
	*) die usage "unknown SUITE '$SUITE' (there are: $(suites all))" ;;
	esac
	export SUITE
}
