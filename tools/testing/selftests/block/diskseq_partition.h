/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Partitions of a disk, by their numbers.
 */
#ifndef __DISKSEQ_PARTITION_H
#define __DISKSEQ_PARTITION_H

#include <dirent.h>
#include <linux/blkpg.h>

#include "diskseq_number.h"

static inline int open_partition(const char *disk, int partno, int flags)
{
	char dev[160];

	snprintf(dev, sizeof(dev), "%s/%sp%d", disk, disk, partno);
	return open_disk(dev, flags);
}

/* In sectors; -ENOENT if there is no such partition. */
static inline long partition_start(const char *disk, int partno)
{
	char path[200], buf[32];
	int ret;

	snprintf(path, sizeof(path), "/sys/block/%s/%sp%d/start", disk, disk,
		 partno);
	ret = read_text(path, buf, sizeof(buf));
	return ret ? ret : atol(buf);
}

static inline bool partition_exists(const char *disk, int partno)
{
	return partition_start(disk, partno) >= 0;
}

/* BLKPG, with start and length in bytes */
static inline int partition_ioctl(int fd, int op, int partno, long long start,
				  long long length)
{
	struct blkpg_partition part = {
		.start = start,
		.length = length,
		.pno = partno,
	};
	struct blkpg_ioctl_arg arg = {
		.op = op,
		.datalen = sizeof(part),
		.data = &part,
	};

	return ioctl(fd, BLKPG, &arg) ? -errno : 0;
}

/* Has a partition, by its path below /sys/block, the number @seq? */
static inline bool partition_has(const char *dev, __u64 seq)
{
	__u64 by_file = 0, by_ioctl = 0;
	int fd = open_disk(dev, O_RDONLY);
	bool has;

	has = fd >= 0 && !diskseq_ioctl(fd, &by_ioctl) &&
	      !diskseq_uevent_file(dev, &by_file) &&
	      by_ioctl == seq && by_file == seq;
	if (fd >= 0)
		close(fd);
	return has;
}

/* -EINVAL if one of them has not the number @seq; 0: whatever that is */
static inline int count_partitions(const char *disk, __u64 seq)
{
	struct dirent *entry;
	char path[128];
	int nr = 0;
	DIR *dir;

	disk_path(path, disk, "");
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (nr >= 0 && (entry = readdir(dir))) {
		char dev[128];

		if (strncmp(entry->d_name, disk, strlen(disk)))
			continue;
		snprintf(dev, sizeof(dev), "%.31s/%.63s", disk, entry->d_name);
		nr = seq && !partition_has(dev, seq) ? -EINVAL : nr + 1;
	}
	closedir(dir);
	return nr;
}

#endif /* __DISKSEQ_PARTITION_H */
