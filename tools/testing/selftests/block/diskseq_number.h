/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The interfaces that show the sequence number of a disk.
 */
#ifndef __DISKSEQ_NUMBER_H
#define __DISKSEQ_NUMBER_H

#include <sys/ioctl.h>
#include <linux/fs.h>

#include "diskseq_disk.h"

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
#endif

static inline int diskseq_ioctl(int fd, __u64 *seq)
{
	__u64 val = 0;

	*seq = 0;
	if (ioctl(fd, BLKGETDISKSEQ, &val))
		return -errno;
	*seq = val;
	return 0;
}

static inline int diskseq_sysfs(const char *disk, __u64 *seq)
{
	char path[128], buf[64], *end;
	int ret;

	*seq = 0;
	disk_path(path, disk, "diskseq");
	ret = read_text(path, buf, sizeof(buf));
	if (ret)
		return ret;
	errno = 0;
	*seq = strtoull(buf, &end, 10);
	if (errno || end == buf || strcmp(end, "\n"))
		return -EINVAL;
	return 0;
}

/* DISKSEQ in the uevent file of a disk ("loop0") or partition ("loop0/loop0p1") */
static inline int diskseq_uevent_file(const char *dev, __u64 *seq)
{
	char path[128], buf[4096], *line, *save;
	unsigned long long val;
	int ret;

	*seq = 0;
	disk_path(path, dev, "uevent");
	ret = read_text(path, buf, sizeof(buf));
	if (ret)
		return ret;
	for (line = strtok_r(buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "DISKSEQ=%llu", &val) != 1)
			continue;
		*seq = val;
		return 0;
	}
	return -ENODATA;
}

/*
 * A kernel has the feature if one of the interfaces shows the number: a broken
 * one must fail the tests, not skip them.
 */
static inline bool has_diskseq(const char *disk, int fd)
{
	__u64 seq;

	/* a test of the tests wants all to run, and fail, where it is missing */
	if (getenv("DISKSEQ_NO_PROBE"))
		return true;
	return !diskseq_ioctl(fd, &seq) || diskseq_sysfs(disk, &seq) != -ENOENT;
}

#endif /* __DISKSEQ_NUMBER_H */
