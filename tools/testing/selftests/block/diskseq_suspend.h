/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For tests of disks in a machine that sleeps meanwhile.
 */
#ifndef __DISKSEQ_SUSPEND_H
#define __DISKSEQ_SUSPEND_H

#include "diskseq.h"

#define SUSPEND_TEST	"/sys/power/pm_test"
#define SUSPEND_STATE	"/sys/power/state"
#define SUSPEND_DELAY	"/sys/module/suspend/parameters/pm_test_delay"

/* Why the machine cannot or may not be suspended, or NULL */
static inline const char *suspend_unusable(void)
{
	char levels[64], states[64];

	if (!may_disrupt())
		return "suspends the machine: needs DISKSEQ_DISRUPT=1";
	if (read_text(SUSPEND_STATE, states, sizeof(states)) ||
	    read_text(SUSPEND_TEST, levels, sizeof(levels)) ||
	    !strstr(states, "freeze") || !strstr(levels, "platform"))
		return "needs CONFIG_SUSPEND and CONFIG_PM_DEBUG";
	return NULL;
}

/*
 * Suspends the machine to idle and resumes it, a second later. All devices are
 * suspended; that the processors idle until something wakes them is left out, as
 * not every machine has something that would.
 */
static inline int suspend_and_resume(void)
{
	int ret;

	ret = setting_change(SUSPEND_DELAY, "1");
	if (!ret)
		ret = setting_change(SUSPEND_TEST, "platform");
	if (!ret)
		ret = write_text(SUSPEND_STATE, "freeze");
	setting_restore(SUSPEND_TEST);
	setting_restore(SUSPEND_DELAY);
	return ret;
}

#endif /* __DISKSEQ_SUSPEND_H */
