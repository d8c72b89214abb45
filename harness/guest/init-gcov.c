// SPDX-License-Identifier: GPL-2.0
/*
 * Sends what a kernel with CONFIG_GCOV_KERNEL counted to the host: an archive as of
 * "cpio -H newc" of the .gcda files below /sys/kernel/debug/gcov, each with the
 * path that it has there, which is that of its object on the host.
 */
#define _GNU_SOURCE
#include "init.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define COUNTERS	"/sys/kernel/debug/gcov/"

static FILE *archive;

static void pad(size_t size)
{
	fwrite("\0\0\0", 1, -size & 3, archive);
}

static void add_entry(const char *path, const char *data, size_t size)
{
	size_t name = strlen(path) + 1;
	int head;

	/* inode, mode, owner, group, links, time, size, four of devices, name, check */
	head = fprintf(archive, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		       0, S_IFREG | 0644, 0, 0, 1, 0, (unsigned int)size, 0, 0, 0, 0,
		       (unsigned int)name, 0);
	fwrite(path, 1, name, archive);
	pad(head + name);
	fwrite(data, 1, size, archive);
	pad(size);
}

/* The files of debugfs do not tell their size. */
static int add_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	size_t size = 0, room = 1 << 20, got;
	char *data;
	FILE *f;

	(void)st;
	(void)ftw;
	if (type != FTW_F || !strstr(path, ".gcda"))
		return 0;
	f = fopen(path, "re");
	data = malloc(room);
	if (!f || !data)
		return -1;
	while ((got = fread(data + size, 1, room - size, f)) > 0) {
		size += got;
		if (size < room)
			continue;
		room *= 2;
		data = realloc(data, room);
		if (!data)
			return -1;
	}
	fclose(f);
	add_entry(path + strlen(COUNTERS), data, size);
	free(data);
	return 0;
}

/* PORT is where the host listens. */
bool send_counters(FILE *port)
{
	archive = port;
	if (nftw(COUNTERS, add_file, 16, FTW_PHYS))
		return false;
	add_entry("TRAILER!!!", "", 0);
	return !fflush(archive) && !ferror(archive);
}
