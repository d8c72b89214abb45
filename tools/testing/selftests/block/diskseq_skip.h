/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests that cannot run on this machine or kernel.
 */
#ifndef __DISKSEQ_SKIP_H
#define __DISKSEQ_SKIP_H

#include "../kselftest_harness.h"

/*
 * Skip a test if there is a @reason, such as one found by its fixture: with the
 * kselftest harness of older kernels, SKIP() in a set-up does not skip the
 * test.
 */
#define SKIP_IF(statement, reason) do { \
	const char *__why = (reason); \
	\
	if (__why) \
		SKIP(statement, "%s", __why); \
} while (0)

#endif /* __DISKSEQ_SKIP_H */
