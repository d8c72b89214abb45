// SPDX-License-Identifier: GPL-2.0
/*
 * The partitions of a loop device come and go with its file: each is added once
 * and removed once, whatever is opened meanwhile, none is left behind, and none
 * is opened that is gone.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq.h"
#include "diskseq_partition.h"
#include "diskseq_target.h"

#define IMAGE_SIZE	0x100000
#define NR_CYCLES	200	/* at most */
#define NR_DELETIONS	1500

/* A thread that opens and closes a disk without pause. */
struct visitor {
	pthread_t thread;
	const char *disk;
	bool partitions;	/* those instead */
	bool stop;
	unsigned int opened;
	unsigned int dead;	/* partitions that were opened and did not exist */
};

/*
 * An open partition can't be deleted. So one that has been opened and does not
 * exist was dead when it was opened.
 */
static void visit_partition(struct visitor *v, int partno)
{
	int fd = open_partition(v->disk, partno, O_RDONLY);

	if (fd < 0)
		return;
	counter_inc(&v->opened);
	if (!partition_exists(v->disk, partno))
		v->dead++;
	close(fd);
}

static void *open_without_pause(void *arg)
{
	struct visitor *v = arg;
	int i, fd;

	while (!flag_is_set(&v->stop)) {
		if (v->partitions) {
			for (i = 1; i <= NR_PARTITIONS; i++)
				visit_partition(v, i);
			continue;
		}
		fd = open_disk(v->disk, O_RDONLY);
		if (fd >= 0) {
			counter_inc(&v->opened);
			close(fd);
		}
	}
	return NULL;
}

static int visitor_start(struct visitor *v, const char *disk, bool partitions)
{
	memset(v, 0, sizeof(*v));
	v->disk = disk;
	v->partitions = partitions;
	return -pthread_create(&v->thread, NULL, open_without_pause, v);
}

static void visitor_stop(struct visitor *v)
{
	flag_set(&v->stop);
	pthread_join(v->thread, NULL);
}

FIXTURE(partitions)
{
	const char *reason;
	struct target t;
};

FIXTURE_SETUP(partitions)
{
	self->reason = target_init(&self->t);
	if (!self->reason)
		ASSERT_EQ(0, target_create_with_files(&self->t, IMAGE_SIZE,
						      true, false));
}

FIXTURE_TEARDOWN(partitions)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

/* How often each partition came and went since the last look */
struct counts {
	unsigned int adds[NR_PARTITIONS + 1];
	unsigned int removes[NR_PARTITIONS + 1];
};

static int count_events(struct __test_metadata *_metadata, struct target *t,
			struct counts *c)
{
	const char *name;
	size_t i;
	int ret, partno;

	memset(c, 0, sizeof(*c));
	ret = watch_fence(&t->w);
	for (i = t->w.mark; !ret && i < t->w.log.nr; i++) {
		const struct uevent *ev = &t->w.log.ev[i];

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
	t->w.mark = t->w.log.nr;
	return ret;
}

static void cycle_with_visitor(struct __test_metadata *_metadata,
			       struct target *t, bool partitions)
{
	int i, p, cycles = test_rounds(NR_CYCLES);
	struct visitor v;
	struct counts c;

	ASSERT_EQ(0, visitor_start(&v, t->lo.name, partitions));
	/* a slow machine's visitor may be late for all of them */
	for (i = 0; i < cycles || !counter_read(&v.opened); i++) {
		ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
					    LO_FLAGS_PARTSCAN));
		ASSERT_EQ(0, loop_detach(t->lo.fd));
		ASSERT_EQ(0, count_events(_metadata, t, &c));
		for (p = 1; p <= NR_PARTITIONS; p++) {
			EXPECT_EQ(1, c.adds[p]);
			EXPECT_EQ(1, c.removes[p]);
			ASSERT_FALSE(partition_exists(t->lo.name, p)) {
				TH_LOG("cycle %d: partition %d left behind", i, p);
			}
		}
	}
	visitor_stop(&v);
	EXPECT_EQ(0, v.dead);
}

TEST_F_TIMEOUT(partitions, are_added_and_removed_once_while_the_disk_is_opened,
	       120)
{
	struct target *t = &self->t;

	SKIP_IF(return, self->reason);
	cycle_with_visitor(_metadata, t, false);
}

TEST_F_TIMEOUT(partitions, are_added_and_removed_once_while_they_are_opened,
	       120)
{
	struct target *t = &self->t;

	SKIP_IF(return, self->reason);
	cycle_with_visitor(_metadata, t, true);
}

static int add_partition(int fd)
{
	return partition_ioctl(fd, BLKPG_ADD_PARTITION, 1, 64 << 9, 64 << 9);
}

static int delete_partition(int fd)
{
	return partition_ioctl(fd, BLKPG_DEL_PARTITION, 1, 0, 0);
}

TEST_F_TIMEOUT(partitions, that_are_deleted_are_not_opened, 120)
{
	struct target *t = &self->t;
	struct visitor v;
	int i, ret;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->other, 0));
	ASSERT_EQ(0, visitor_start(&v, t->lo.name, true));
	for (i = 0; i < NR_DELETIONS || !counter_read(&v.opened); i++) {
		ASSERT_EQ(0, add_partition(t->lo.fd));
		while ((ret = delete_partition(t->lo.fd)) == -EBUSY)
			;
		ASSERT_EQ(0, ret);
	}
	visitor_stop(&v);
	EXPECT_LT(0, v.opened);
	EXPECT_EQ(0, v.dead);
}

TEST_F(partitions, added_by_hand_do_not_outlive_detach)
{
	struct target *t = &self->t;
	struct counts c;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->other, 0));
	ASSERT_EQ(0, add_partition(t->lo.fd));
	ASSERT_EQ(0, loop_detach(t->lo.fd));
	EXPECT_FALSE(partition_exists(t->lo.name, 1));
	ASSERT_EQ(0, count_events(_metadata, t, &c));
	EXPECT_EQ(1, c.adds[1]);
	EXPECT_EQ(1, c.removes[1]);
}

TEST_F(partitions, added_by_hand_do_not_outlive_change_fd_unless_open)
{
	struct target *t = &self->t;
	int fd;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->other,
				    LO_FLAGS_READ_ONLY));
	ASSERT_EQ(0, add_partition(t->lo.fd));
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CHANGE_FD, t->image));
	EXPECT_FALSE(partition_exists(t->lo.name, 1));

	ASSERT_EQ(0, add_partition(t->lo.fd));
	fd = open_partition(t->lo.name, 1, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CHANGE_FD, t->other));
	EXPECT_TRUE(partition_exists(t->lo.name, 1));
	close(fd);
}

/* It would be read under the number of the file that is attached. */
TEST_F(partitions, that_are_open_keep_a_file_from_being_attached)
{
	struct target *t = &self->t;
	int fd, ret;
	__u64 seq;

	SKIP_IF(return, self->reason);

	ret = add_partition(t->lo.fd);
	if (ret == -EINVAL)
		SKIP(return, "this kernel adds no partition to an empty disk");
	ASSERT_EQ(0, ret);
	fd = open_partition(t->lo.name, 1, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, watch_settle(&t->w));
	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &seq));

	EXPECT_EQ(-EBUSY, loop_configure(t->lo.fd, t->image, 0));
	check_nothing(_metadata, &t->w, seq, false);
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
	int fd;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, LO_FLAGS_PARTSCAN));
	fd = open_partition(t->lo.name, 1, O_RDONLY);
	ASSERT_LE(0, fd);
	loop_close(&t->lo);

	ASSERT_EQ(0, ioctl(fd, LOOP_CLR_FD, 0));
	EXPECT_TRUE(loop_has_file(t->lo.name));
	/* since v6.11 a status is refused to the only opener from here on */
	if (!loop_status(fd, &info))
		EXPECT_NE(0, info.lo_flags & LO_FLAGS_AUTOCLEAR);
	EXPECT_TRUE(partition_exists(t->lo.name, 1));
	close(fd);

	if (!udev_is_running())
		EXPECT_FALSE(partition_exists(t->lo.name, 1));
	ASSERT_EQ(0, loop_open(&t->lo, O_RDWR));
}

TEST_HARNESS_MAIN
