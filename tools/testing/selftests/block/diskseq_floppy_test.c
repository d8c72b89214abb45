// SPDX-License-Identifier: GPL-2.0
/*
 * A floppy drive, in QEMU: the number changes with the disk, on each node of
 * the drive, and without uevents. They would make a listener open the drive,
 * which starts its motor to look for a change.
 *
 * Needs the monitor of QEMU, see diskseq_qmp.h, and skips on other machines.
 */
#define _GNU_SOURCE
#include <linux/major.h>

#include "diskseq.h"
#include "diskseq_drive.h"
#include "diskseq_qmp.h"

#define NR_CHANGES	3
#define NR_OPENS	10
#define MINOR_1440	(7 << 2)	/* of fd0u1440, as fd(4) has them */

FIXTURE(floppy)
{
	const char *reason;
	struct watch d;
	struct qmp qmp;
	int minor;
};

FIXTURE_VARIANT(floppy)
{
	int other;		/* minor of the node that is opened between */
};

FIXTURE_VARIANT_ADD(floppy, one_node) {
	.other = 0,
};

FIXTURE_VARIANT_ADD(floppy, two_nodes) {
	.other = MINOR_1440,
};

static int open_node(int minor)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/diskseq-fd-%d", getpid());
	if (mknod(path, S_IFBLK | 0600, makedev(FLOPPY_MAJOR, minor)))
		return -errno;
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	unlink(path);
	return fd;
}

/* What does a program find in the drive that opens it now, and under what number? */
static int read_node(int minor, __u64 *seq)
{
	__u64 after;
	int fd, ret;

	fd = open_node(minor);
	if (fd < 0)
		return fd;
	ret = diskseq_ioctl(fd, seq);
	if (!ret)
		ret = medium_read(fd);
	if (!diskseq_ioctl(fd, &after) && after != *seq)
		ret = -ESTALE;
	close(fd);
	return ret;
}

FIXTURE_SETUP(floppy)
{
	struct watch *d = &self->d;
	struct news news;
	int fd;

	memset(self, 0, sizeof(*self));
	d->nl = -1;
	ASSERT_EQ(0, qmp_start(&self->qmp, &self->reason));
	if (self->reason)
		return;
	load_module("floppy", NULL);
	if (access("/sys/block/fd0", F_OK)) {
		self->reason = "needs the floppy drive of QEMU";
		return;
	}
	snprintf(d->name, sizeof(d->name), "fd0");
	fd = open_disk("fd0", O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	if (!has_diskseq("fd0", fd))
		self->reason = "kernel has no disk sequence numbers";
	close(fd);
	if (self->reason)
		return;
	d->nl = uevent_open();
	ASSERT_LE(0, d->nl);
	ASSERT_EQ(0, media_none(&self->qmp));
	ASSERT_EQ(0, medium_insert(&self->qmp, "floppy", 'a'));
	ASSERT_EQ(0, watch_hear(d, &news));
}

FIXTURE_TEARDOWN(floppy)
{
	struct watch *d = &self->d;

	if (d->nl >= 0)
		EXPECT_EQ(0, media_none(&self->qmp));
	qmp_close(&self->qmp);
	watch_close(d);
}

TEST_F(floppy, number_changes_with_the_disk_and_without_events)
{
	static const int minors[] = { 0, MINOR_1440 };
	struct watch *d = &self->d;
	__u64 seq, last[2], other;
	size_t first, n;
	int i, j;

	SKIP_IF(return, self->reason);

	for (n = 0; n < 2; n++)
		ASSERT_EQ('a', read_node(minors[n], &last[n]));
	/* the second node may be a disk that did not exist before */
	ASSERT_EQ(0, uevent_fence(d->nl, "fd0", &d->log));
	first = d->log.nr;

	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, medium_change(&self->qmp, "floppy", medium));
		if (variant->other)
			ASSERT_EQ(medium, read_node(variant->other, &other));
		for (n = 0; n < 2; n++) {
			ASSERT_EQ(medium, read_node(minors[n], &seq));
			EXPECT_LT(last[n], seq) {
				TH_LOG("change %d, minor %d", i, minors[n]);
			}
			last[n] = seq;
		}
		for (j = 0; j < NR_OPENS; j++) {
			ASSERT_EQ(medium, read_node(minors[j % 2], &seq));
			EXPECT_EQ(last[j % 2], seq);
		}
		ASSERT_EQ(0, diskseq_sysfs("fd0", &seq));
		EXPECT_EQ(last[0], seq);
	}

	ASSERT_EQ(0, uevent_fence(d->nl, "fd0", &d->log));
	for (; first < d->log.nr; first++)
		EXPECT_NE(0, strncmp(d->log.ev[first].disk, "fd0", 3));
}

TEST_HARNESS_MAIN
