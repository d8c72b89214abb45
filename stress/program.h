/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs of stress/ have in common: how they end, and how they read their
 * parameters from the environment.
 */
#ifndef __DISKSEQ_PROGRAM_H
#define __DISKSEQ_PROGRAM_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bail out: the results of this run are invalid. WHAT failed, with errno. */
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
