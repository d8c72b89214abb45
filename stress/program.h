/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What each program of stress/ does in the same way: it comes to an end, and looks
 * for its numbers in the environment.
 */
#ifndef __DISKSEQ_PROGRAM_H
#define __DISKSEQ_PROGRAM_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nothing of this run counts: WHAT was called, and errno says why it failed. */
static inline void __attribute__((noreturn, format(printf, 1, 2))) die(const char *what, ...)
{
	int err = errno;
	va_list ap;

	printf("Bail out! ");
	va_start(ap, what);
	vprintf(what, ap);
	va_end(ap);
	printf(": %s\n", strerror(err));
	fflush(stdout);
	_exit(1);
}

static inline long option(const char *name, long otherwise)
{
	const char *value = getenv(name);

	return value && *value ? atol(value) : otherwise;
}

#endif
