// SPDX-License-Identifier: GPL-2.0
/*
 * Asks a kernel with CONFIG_DEBUG_KMEMLEAK for memory that no pointer leads to any
 * more, and prints that on the console, where reports.awk finds it.
 */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
/* It skips what is younger: a pointer to it may be about to be stored. */
#define MIN_AGE		5	/* seconds */

static bool scan(int fd)
{
	return write(fd, "scan", 4) == 4;
}

/* Returns false if there is a detector that does not work. */
bool report_leaks(void)
{
	int fd = open(KMEMLEAK, O_RDWR | O_CLOEXEC);
	char buf[4096];
	ssize_t len = -1;

	if (fd < 0)
		return errno == ENOENT;
	sleep(MIN_AGE + 1);
	/* What has changed since the scan before is not reported. */
	if (scan(fd) && scan(fd)) {
		printf("kmemleak: scanned\n");
		while ((len = read(fd, buf, sizeof(buf))) > 0)
			fwrite(buf, 1, len, stdout);
	}
	fflush(stdout);
	close(fd);
	return len == 0;
}
