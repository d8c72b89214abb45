// SPDX-License-Identifier: GPL-2.0
/*
 * A loop device gets a new sequence number whenever its content is another: at
 * attach, at detach, and when its file is changed under it. Each is announced by
 * uevents.
 */
#define _GNU_SOURCE
#include "diskseq.h"
#include "diskseq_suspend.h"
#include "diskseq_target.h"

#define IMAGE_SIZE	(1024 * 1024)

FIXTURE(loop)
{
	const char *reason;
	struct target t;
};

FIXTURE_VARIANT(loop)
{
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(loop, whole)
{
	.flags = 0,
};

FIXTURE_VARIANT_ADD(loop, partscan)
{
	.flags = LO_FLAGS_PARTSCAN,
};

FIXTURE_SETUP(loop)
{
	self->reason = target_init(&self->t);
	if (!self->reason)
		ASSERT_EQ(0, target_create_with_files(&self->t, IMAGE_SIZE,
						      true, true));
}

FIXTURE_TEARDOWN(loop)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

static enum partitions appear(unsigned int flags)
{
	return flags & LO_FLAGS_PARTSCAN ? PARTITIONS_APPEAR : NO_PARTITIONS;
}

static enum partitions vanish(unsigned int flags)
{
	return flags & LO_FLAGS_PARTSCAN ? PARTITIONS_VANISH : NO_PARTITIONS;
}

static enum partitions change(unsigned int flags)
{
	return flags & LO_FLAGS_PARTSCAN ? PARTITIONS_CHANGE : NO_PARTITIONS;
}

/*
 * Where udev runs, the last close may be its own, and come later. An open waits
 * for the driver to have finished.
 */
static void wait_for_last_close(struct target *t, __u64 old)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int fd;

	if (!udev_is_running())
		return;
	while (watch_number(&t->w) == old && now_ms() < deadline)
		nap();
	fd = open_disk(t->lo.name, O_RDONLY);
	if (fd >= 0)
		close(fd);
}

TEST_F(loop, attach_by_configure_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	SKIP_IF(return, self->reason);

	old = watch_number(&t->w);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	check_attach(_metadata, &t->w, old, appear(variant->flags));
}

TEST_F(loop, attach_by_set_fd_gives_a_new_number)
{
	struct target *t = &self->t;
	struct loop_info64 info;
	struct news news;
	__u64 old;

	SKIP_IF(return, self->reason);

	old = watch_number(&t->w);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_SET_FD, t->image));
	check_attach(_metadata, &t->w, old, NO_PARTITIONS);

	if (!variant->flags)
		return;

	/* to look for partitions later is no change of medium */
	old = watch_number(&t->w);
	ASSERT_EQ(0, loop_status(t->lo.fd, &info));
	info.lo_flags |= variant->flags;
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_SET_STATUS64, &info));
	EXPECT_EQ(old, watch_number(&t->w));
	ASSERT_EQ(0, watch_hear(&t->w, &news));
	EXPECT_EQ(0, news.media);
	EXPECT_EQ(0, news.decreases);
	EXPECT_EQ(old, t->w.last_seen);
	EXPECT_LE(NR_PARTITIONS, news.adds.nr);
}

TEST_F(loop, attach_read_only_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	SKIP_IF(return, self->reason);

	loop_close(&t->lo);
	ASSERT_EQ(0, loop_open(&t->lo, O_RDONLY));
	old = watch_number(&t->w);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	check_attach(_metadata, &t->w, old, appear(variant->flags));
}

TEST_F(loop, detach_by_clr_fd_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	SKIP_IF(return, self->reason);

	old = watch_number(&t->w);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	check_attach(_metadata, &t->w, old, appear(variant->flags));

	old = watch_number(&t->w);
	ASSERT_EQ(0, loop_detach(t->lo.fd));
	check_change(_metadata, &t->w, old, 1, vanish(variant->flags));
}

TEST_F(loop, detach_by_autoclear_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	SKIP_IF(return, self->reason);

	old = watch_number(&t->w);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
				    variant->flags | LO_FLAGS_AUTOCLEAR));
	check_attach(_metadata, &t->w, old, appear(variant->flags));

	old = watch_number(&t->w);
	loop_close(&t->lo);
	wait_for_last_close(t, old);
	check_change(_metadata, &t->w, old, 1, vanish(variant->flags));
}

TEST_F(loop, deferred_detach_assigns_at_the_last_close_only)
{
	struct target *t = &self->t;
	struct loop_info64 info;
	__u64 old;
	int opener;

	SKIP_IF(return, self->reason);

	old = watch_number(&t->w);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	check_attach(_metadata, &t->w, old, appear(variant->flags));

	old = watch_number(&t->w);
	opener = open_disk(t->lo.name, O_RDONLY);
	ASSERT_LE(0, opener);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CLR_FD, 0));
	ASSERT_EQ(0, loop_status(t->lo.fd, &info));
	EXPECT_NE(0, info.lo_flags & LO_FLAGS_AUTOCLEAR);
	check_no_number_used(_metadata, t, old);

	close(opener);
	check_no_number_used(_metadata, t, old);

	loop_close(&t->lo);
	wait_for_last_close(t, old);
	/* a disk that came and went since has got one, too: see the log */
	check_change(_metadata, &t->w, old, 1, vanish(variant->flags));
}

TEST_F(loop, change_fd_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	SKIP_IF(return, self->reason);

	old = watch_number(&t->w);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
				    variant->flags | LO_FLAGS_READ_ONLY));
	check_attach(_metadata, &t->w, old, appear(variant->flags));

	old = watch_number(&t->w);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CHANGE_FD, t->other));
	check_change(_metadata, &t->w, old, ANY_CHANGES, change(variant->flags));

	/* and back: the same file again is another medium again */
	old = watch_number(&t->w);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CHANGE_FD, t->image));
	check_change(_metadata, &t->w, old, ANY_CHANGES, change(variant->flags));
}

/* The block size changes how the file is accessed, not its contents. */
TEST_F(loop, block_size_leaves_number_and_events_alone)
{
	struct target *t = &self->t;
	__u64 seq;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	ASSERT_EQ(0, watch_settle(&t->w));
	seq = watch_number(&t->w);
	if (ioctl(t->lo.fd, LOOP_SET_BLOCK_SIZE, 4096UL)) {
		ASSERT_EQ(EAGAIN, errno);
		SKIP(return, "a page of the device is in use");
	}
	check_no_number_used(_metadata, t, seq);
}

TEST_F(loop, number_stays_while_the_machine_sleeps)
{
	struct target *t = &self->t;
	__u64 seq;

	SKIP_IF(return, self->reason);
	SKIP_IF(return, suspend_unusable());

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	ASSERT_EQ(0, watch_settle(&t->w));
	seq = watch_number(&t->w);
	ASSERT_EQ(0, suspend_and_resume());
	check_no_number_used(_metadata, t, seq);
	EXPECT_TRUE(loop_is_bound(t->lo.fd));
	ASSERT_EQ(0, loop_detach(t->lo.fd));
}

TEST_F(loop, each_of_several_cycles_assigns_twice)
{
	struct target *t = &self->t;
	__u64 old;
	int i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < 4; i++) {
		old = watch_number(&t->w);
		ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
					    variant->flags));
		check_attach(_metadata, &t->w, old, appear(variant->flags));
		old = watch_number(&t->w);
		ASSERT_EQ(0, loop_detach(t->lo.fd));
		check_change(_metadata, &t->w, old, 1, vanish(variant->flags));
	}
}

TEST_HARNESS_MAIN
