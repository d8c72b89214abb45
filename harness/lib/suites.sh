# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# The Debian releases of make userland, by their table. Sourced after lib.sh.

# suites [FOR]: all of them, or those that make check boots for FOR (see the table)
suites() {
	awk -v for_="${1:-}" '!/^#/ && NF && (for_ == "" || $2 == for_) { print $1 }' \
		"$HARNESS/tables/suites" | xargs
}

# choose_suite: SUITE, or the default
choose_suite() {
	SUITE=${SUITE:-$(suites | cut -d' ' -f1)}
	case " $(suites) " in
	*" $SUITE "*) ;;
	*) die usage "unknown SUITE '$SUITE' (there are: $(suites))" ;;
	esac
	export SUITE
}
