/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A mapped page that cannot be read gives SIGBUS: that is an answer, too.
 */
#ifndef __DISKSEQ_PEEK_H
#define __DISKSEQ_PEEK_H

#include <setjmp.h>

#include "diskseq_util.h"

static __thread sigjmp_buf peek_jump;

static inline void peek_failed(int sig)
{
	siglongjmp(peek_jump, 1);
}

/* Once in each program that peeks */
static inline int peek_init(void)
{
	struct sigaction sa = { .sa_handler = peek_failed };

	return sigaction(SIGBUS, &sa, NULL) ? -errno : 0;
}

/* What is in the mapped memory, or -EIO */
static inline int peek(const unsigned char *mem)
{
	if (sigsetjmp(peek_jump, 1))
		return -EIO;
	return __atomic_load_n(mem, __ATOMIC_RELAXED);
}

#endif /* __DISKSEQ_PEEK_H */
