/* SPDX-License-Identifier: GPL-2.0 */
/*
 * SCSI disks and drives whose medium changes.
 */
#ifndef __DISKSEQ_DRIVE_H
#define __DISKSEQ_DRIVE_H

#include "diskseq_scsi.h"
#include "diskseq_watch.h"

/* As each interface shows it; an open by itself looks for a change. */
static inline int drive_diskseq(const struct watch *d, __u64 *seq)
{
	__u64 by_sysfs;
	int fd, ret;

	*seq = 0;
	fd = open_disk(d->name, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	ret = diskseq_ioctl(fd, seq);
	if (!ret)
		ret = diskseq_sysfs(d->name, &by_sysfs);
	if (!ret && *seq != by_sysfs)
		ret = -ESTALE;
	close(fd);
	return ret;
}

/*
 * A drive that is new, or was used by another program, reports changes of its own:
 * ask until it does not.
 */
static inline int drive_settle(const struct watch *d)
{
	long long deadline = now_ms() + PATIENCE_MS;
	__u64 before, after;
	int ret;

	ret = diskseq_sysfs(d->name, &after);
	if (ret)
		return ret;
	do {
		before = after;
		ret = disk_look(d->name);
		if (!ret)
			ret = disk_wait_for_polls(d->name, 3);
		if (!ret)
			ret = diskseq_sysfs(d->name, &after);
		if (!ret && now_ms() > deadline)
			ret = -ETIMEDOUT;
	} while (!ret && before != after);
	return ret;
}

/* A unit attention is reported to the command that comes first. */
static inline int drive_is_ready(int fd)
{
	static const unsigned char test_unit_ready[6];
	unsigned char key;

	return disk_command(fd, test_unit_ready, sizeof(test_unit_ready), &key);
}

/*
 * There was a change since the last check, with number @seq. It is waited for, and
 * nothing comes after it when the medium is looked at. A drive may report it as
 * two, that the old medium is gone and that there is a new one.
 */
static inline void drive_check_changed(struct __test_metadata *_metadata,
				       struct watch *d, __u64 *seq)
{
	struct news news;
	__u64 now;

	ASSERT_EQ(0, wait_for_change(d, NULL));
	ASSERT_EQ(0, drive_settle(d));
	ASSERT_EQ(0, disk_wait_for_polls(d->name, 3));
	ASSERT_EQ(0, drive_diskseq(d, &now));
	EXPECT_LT(*seq, now);
	ASSERT_EQ(0, watch_hear(d, &news));
	EXPECT_LE(1, news.media);
	EXPECT_GE(2, news.media);
	EXPECT_EQ(0, news.requests);
	EXPECT_EQ(0, news.decreases);
	EXPECT_EQ(now, news.last);
	EXPECT_EQ(0, uevent_unaccounted(d->nl, &d->log, *seq, now));
	*seq = now;
}

/* There was none, but so many requests to eject. */
static inline void drive_check_unchanged(struct __test_metadata *_metadata,
					 struct watch *d, __u64 seq,
					 unsigned int requests)
{
	struct news news;
	__u64 now;

	ASSERT_EQ(0, watch_hear(d, &news));
	EXPECT_EQ(0, news.media);
	EXPECT_EQ(requests, news.requests);
	if (requests)
		EXPECT_EQ(seq, news.last);
	ASSERT_EQ(0, diskseq_sysfs(d->name, &now));
	EXPECT_EQ(seq, now);
}

#endif /* __DISKSEQ_DRIVE_H */
