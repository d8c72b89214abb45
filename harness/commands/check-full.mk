# SPDX-License-Identifier: GPL-2.0
# The legs of make check-full: one is done when its stamp is newer than all that it tests.
inputs := $(shell find $(PATCHES) $(HARNESS) $(STRESS) -type f)

$(RESULTS)/full/%/done: $(inputs)
	@$(HARNESS)/commands/check-full-leg.sh $*
