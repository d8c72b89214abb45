/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A thread that reads the number of a disk, its size, and the number again: what is
 * read under one number has to be one size.
 */
#ifndef __DISKSEQ_SIZE_H
#define __DISKSEQ_SIZE_H

#include <pthread.h>

#include "diskseq_number.h"

struct size_reader {
	pthread_t	thread;
	char		disk[64];
	int		fd;		/* by ioctl, or -1: by sysfs */
	bool		stop;
	unsigned int	reads;
	unsigned int	changes;	/* of number or size */
	unsigned int	wrong;		/* sizes of a number that has another */
};

static inline bool size_reader_number(struct size_reader *r, __u64 *seq)
{
	return !(r->fd < 0 ? diskseq_sysfs(r->disk, seq) :
		 diskseq_ioctl(r->fd, seq));
}

static inline bool size_reader_size(struct size_reader *r, __u64 *size)
{
	char path[128], buf[32];

	if (r->fd >= 0)
		return !ioctl(r->fd, BLKGETSIZE64, size);
	disk_path(path, r->disk, "size");
	if (read_text(path, buf, sizeof(buf)))
		return false;
	*size = strtoull(buf, NULL, 10);
	return true;
}

static inline void *size_reader_run(void *arg)
{
	struct size_reader *r = arg;
	__u64 seq, again, size, last_seq = 0, last_size = 0;

	while (!flag_is_set(&r->stop)) {
		if (!size_reader_number(r, &seq) || !size_reader_size(r, &size) ||
		    !size_reader_number(r, &again) || seq != again)
			continue;
		if (seq == last_seq && size != last_size)
			r->wrong++;
		r->changes += seq != last_seq || size != last_size;
		last_seq = seq;
		last_size = size;
		counter_inc(&r->reads);
	}
	return NULL;
}

/* Returns when it has begun to read. @fd: -1 where an opener would be in the way. */
static inline int size_reader_start(struct size_reader *r, const char *disk, int fd)
{
	int ret;

	memset(r, 0, sizeof(*r));
	snprintf(r->disk, sizeof(r->disk), "%s", disk);
	r->fd = fd;
	ret = pthread_create(&r->thread, NULL, size_reader_run, r);
	if (ret)
		return -ret;
	return wait_for_count(&r->reads, 1) ? 0 : -ETIMEDOUT;
}

static inline void size_reader_stop(struct size_reader *r)
{
	flag_set(&r->stop);
	pthread_join(r->thread, NULL);
}

#endif /* __DISKSEQ_SIZE_H */
