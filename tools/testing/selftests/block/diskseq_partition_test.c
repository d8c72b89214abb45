// SPDX-License-Identifier: GPL-2.0
/*
 * The partitions of a loop device come and go with its file: each is added once
 * and removed once, whoever opens what meanwhile, none is left behind, and none
 * is opened that is gone.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <linux/blkpg.h>

#include "../kselftest_harness.h"
#include "diskseq.h"

#define IMAGE_SIZE	0x100000
#define NR_PARTITIONS	2
#define NR_CYCLES	200	/* at most */
#define NR_DELETIONS	1500

/* A thread that opens and closes disks without pause. */
struct opener {
	pthread_t thread;
	const char *disk;
	bool partitions;	/* them, too */
	bool stop;
	unsigned long opened;	/* partitions, or disks if not these */
	unsigned long dead;	/* partitions that were opened and did not exist */
};

static bool partition_exists(const char *disk, int partno)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/%sp%d", disk, disk, partno);
	return !access(path, F_OK);
}

/*
 * An open partition can't be deleted. So one that has been opened and does not
 * exist was dead when it was opened.
 */
static void open_partition(struct opener *op, int partno)
{
	char dev[64];
	int fd;

	snprintf(dev, sizeof(dev), "%s/%sp%d", op->disk, op->disk, partno);
	fd = open_disk(dev, O_RDONLY);
	if (fd < 0)
		return;
	__atomic_add_fetch(&op->opened, 1, __ATOMIC_RELAXED);
	if (!partition_exists(op->disk, partno))
		op->dead++;
	close(fd);
}

static void *open_without_pause(void *arg)
{
	struct opener *op = arg;
	int i, fd;

	while (!__atomic_load_n(&op->stop, __ATOMIC_RELAXED)) {
		if (op->partitions) {
			for (i = 1; i <= NR_PARTITIONS; i++)
				open_partition(op, i);
			continue;
		}
		fd = open_disk(op->disk, O_RDONLY);
		if (fd >= 0) {
			__atomic_add_fetch(&op->opened, 1, __ATOMIC_RELAXED);
			close(fd);
		}
	}
	return NULL;
}

static int opener_start(struct opener *op, const char *disk, bool partitions)
{
	memset(op, 0, sizeof(*op));
	op->disk = disk;
	op->partitions = partitions;
	return pthread_create(&op->thread, NULL, open_without_pause, op);
}

static bool opener_opened(struct opener *op)
{
	return __atomic_load_n(&op->opened, __ATOMIC_RELAXED);
}

static void opener_stop(struct opener *op)
{
	__atomic_store_n(&op->stop, true, __ATOMIC_RELAXED);
	pthread_join(op->thread, NULL);
}

/* A loop device, a file with partitions and one without. */
struct target {
	struct uevent_log log;
	struct loop lo;
	int nl;
	int image;
	int other;
};

FIXTURE(partitions)
{
	const char *reason;
	struct target t;
};

FIXTURE_SETUP(partitions)
{
	struct target *t = &self->t;

	memset(t, 0, sizeof(*t));
	t->nl = -1;
	t->image = -1;
	t->other = -1;
	t->lo.nr = -1;
	t->lo.fd = -1;
	self->reason = loop_unusable();
	if (self->reason)
		return;
	t->nl = uevent_open();
	ASSERT_LE(0, t->nl);
	t->image = backing_file(IMAGE_SIZE, true);
	ASSERT_LE(0, t->image);
	t->other = backing_file(IMAGE_SIZE, false);
	ASSERT_LE(0, t->other);
	ASSERT_EQ(0, loop_create(&t->lo));
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	t->log.nr = 0;
}

FIXTURE_TEARDOWN(partitions)
{
	struct target *t = &self->t;

	if (t->lo.nr >= 0)
		EXPECT_EQ(0, loop_destroy(&t->lo));
	if (t->other >= 0)
		close(t->other);
	if (t->image >= 0)
		close(t->image);
	if (t->nl >= 0)
		close(t->nl);
	free(t->log.ev);
}

/* How often each partition came and went since the last call. */
struct counts {
	unsigned int adds[NR_PARTITIONS + 1];
	unsigned int removes[NR_PARTITIONS + 1];
};

static int count_partitions(struct __test_metadata *_metadata,
			    struct target *t, struct counts *c)
{
	const char *name;
	size_t i;
	int ret, partno;

	memset(c, 0, sizeof(*c));
	ret = uevent_fence(t->nl, t->lo.name, &t->log);
	for (i = 0; !ret && i < t->log.nr; i++) {
		const struct uevent *ev = &t->log.ev[i];

		if (!uevent_is_own(ev, t->lo.name) || !ev->partition)
			continue;
		name = strrchr(ev->devpath, 'p');
		partno = name ? atoi(name + 1) : 0;
		if (partno < 1 || partno > NR_PARTITIONS) {
			ret = -EINVAL;
			TH_LOG("%s of %s", ev->action, ev->devpath);
		} else if (uevent_is_add(ev)) {
			c->adds[partno]++;
		} else if (uevent_is_remove(ev)) {
			c->removes[partno]++;
		}
	}
	t->log.nr = 0;
	return ret;
}

static void cycle_with_opener(struct __test_metadata *_metadata,
			      struct target *t, bool partitions)
{
	int i, p, cycles = test_rounds(NR_CYCLES);
	struct opener op;
	struct counts c;

	ASSERT_EQ(0, opener_start(&op, t->lo.name, partitions));
	/* a slow machine's opener may be late for all of them */
	for (i = 0; i < cycles || !opener_opened(&op); i++) {
		ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
					    LO_FLAGS_PARTSCAN));
		ASSERT_EQ(0, loop_detach(t->lo.fd));
		ASSERT_EQ(0, count_partitions(_metadata, t, &c));
		for (p = 1; p <= NR_PARTITIONS; p++) {
			EXPECT_EQ(1, c.adds[p]);
			EXPECT_EQ(1, c.removes[p]);
			ASSERT_FALSE(partition_exists(t->lo.name, p)) {
				TH_LOG("cycle %d: partition %d left behind", i, p);
			}
		}
	}
	opener_stop(&op);
	EXPECT_EQ(0, op.dead);
}

TEST_F_TIMEOUT(partitions, are_added_and_removed_once_while_the_disk_is_opened,
	       120)
{
	struct target *t = &self->t;

	if (self->reason)
		SKIP(return, "%s", self->reason);
	cycle_with_opener(_metadata, t, false);
}

TEST_F_TIMEOUT(partitions, are_added_and_removed_once_while_they_are_opened,
	       120)
{
	struct target *t = &self->t;

	if (self->reason)
		SKIP(return, "%s", self->reason);
	cycle_with_opener(_metadata, t, true);
}

static int partition_ioctl(int fd, int op, int partno)
{
	struct blkpg_partition part = {
		.start = 64 << 9,
		.length = 64 << 9,
		.pno = partno,
	};
	struct blkpg_ioctl_arg arg = {
		.op = op,
		.datalen = sizeof(part),
		.data = &part,
	};

	return ioctl(fd, BLKPG, &arg) ? -errno : 0;
}

TEST_F_TIMEOUT(partitions, that_are_deleted_are_not_opened, 120)
{
	struct target *t = &self->t;
	struct opener op;
	int i, ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->other, 0));
	ASSERT_EQ(0, opener_start(&op, t->lo.name, true));
	for (i = 0; i < NR_DELETIONS || !opener_opened(&op); i++) {
		ASSERT_EQ(0, partition_ioctl(t->lo.fd, BLKPG_ADD_PARTITION, 1));
		while ((ret = partition_ioctl(t->lo.fd, BLKPG_DEL_PARTITION,
					      1)) == -EBUSY)
			;
		ASSERT_EQ(0, ret);
	}
	opener_stop(&op);
	EXPECT_LT(0, op.opened);
	EXPECT_EQ(0, op.dead);
}

TEST_F(partitions, added_by_hand_do_not_outlive_detach)
{
	struct target *t = &self->t;
	struct counts c;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->other, 0));
	ASSERT_EQ(0, partition_ioctl(t->lo.fd, BLKPG_ADD_PARTITION, 1));
	ASSERT_EQ(0, loop_detach(t->lo.fd));
	EXPECT_FALSE(partition_exists(t->lo.name, 1));
	ASSERT_EQ(0, count_partitions(_metadata, t, &c));
	EXPECT_EQ(1, c.adds[1]);
	EXPECT_EQ(1, c.removes[1]);
}

TEST_F(partitions, added_by_hand_do_not_outlive_change_fd_unless_open)
{
	struct target *t = &self->t;
	char dev[64];
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->other,
				    LO_FLAGS_READ_ONLY));
	ASSERT_EQ(0, partition_ioctl(t->lo.fd, BLKPG_ADD_PARTITION, 1));
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CHANGE_FD, t->image));
	EXPECT_FALSE(partition_exists(t->lo.name, 1));

	ASSERT_EQ(0, partition_ioctl(t->lo.fd, BLKPG_ADD_PARTITION, 1));
	snprintf(dev, sizeof(dev), "%s/%sp1", t->lo.name, t->lo.name);
	fd = open_disk(dev, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CHANGE_FD, t->other));
	EXPECT_TRUE(partition_exists(t->lo.name, 1));
	close(fd);
}

/* It would be read under the number of the file that is attached. */
TEST_F(partitions, that_are_open_keep_a_file_from_being_attached)
{
	struct target *t = &self->t;
	__u64 seq, now;
	char dev[64];
	size_t i;
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, partition_ioctl(t->lo.fd, BLKPG_ADD_PARTITION, 1));
	snprintf(dev, sizeof(dev), "%s/%sp1", t->lo.name, t->lo.name);
	fd = open_disk(dev, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	t->log.nr = 0;
	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &seq));

	EXPECT_EQ(-EBUSY, loop_configure(t->lo.fd, t->image, 0));
	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &now));
	EXPECT_EQ(seq, now);
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	for (i = 0; i < t->log.nr; i++)
		EXPECT_FALSE(uevent_is_own(&t->log.ev[i], t->lo.name));
	EXPECT_TRUE(partition_exists(t->lo.name, 1));
	close(fd);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, 0));
	EXPECT_FALSE(partition_exists(t->lo.name, 1));
	ASSERT_EQ(0, loop_detach(t->lo.fd));
}

TEST_F(partitions, put_detach_off_if_it_is_asked_for_through_one)
{
	struct target *t = &self->t;
	struct loop_info64 info;
	char dev[64];
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, LO_FLAGS_PARTSCAN));
	snprintf(dev, sizeof(dev), "%s/%sp1", t->lo.name, t->lo.name);
	fd = open_disk(dev, O_RDONLY);
	ASSERT_LE(0, fd);
	loop_close(&t->lo);

	ASSERT_EQ(0, ioctl(fd, LOOP_CLR_FD, 0));
	ASSERT_EQ(0, loop_status(fd, &info));
	EXPECT_NE(0, info.lo_flags & LO_FLAGS_AUTOCLEAR);
	EXPECT_TRUE(partition_exists(t->lo.name, 1));
	close(fd);

	if (!udev_is_running())
		EXPECT_FALSE(partition_exists(t->lo.name, 1));
	ASSERT_EQ(0, loop_open(&t->lo, O_RDWR));
}

TEST_HARNESS_MAIN
