/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A loop device that is watched, and two files for it: what most tests of loop
 * devices have as their fixture.
 */
#ifndef __DISKSEQ_TARGET_H
#define __DISKSEQ_TARGET_H

#include "diskseq_loop.h"
#include "diskseq_watch.h"

struct target {
	struct watch w;
	struct loop lo;
	int image;
	int other;
};

/* To be called first; returns why there is no loop device, or NULL. */
static inline const char *target_init(struct target *t)
{
	memset(t, 0, sizeof(*t));
	t->w.nl = -1;
	t->image = -1;
	t->other = -1;
	t->lo.nr = -1;
	t->lo.fd = -1;
	return loop_unusable();
}

/* Opened for reading and writing, without a file */
static inline int target_create(struct target *t)
{
	int ret;

	ret = loop_create(&t->lo);
	if (!ret)
		ret = watch_open(&t->w, t->lo.name);
	return ret ? ret : watch_settle(&t->w);
}

/* With files of one size */
static inline int target_create_with_files(struct target *t, size_t size,
					   bool image_partitioned,
					   bool other_partitioned)
{
	t->image = backing_file(size, image_partitioned);
	if (t->image < 0)
		return t->image;
	t->other = backing_file(size, other_partitioned);
	if (t->other < 0)
		return t->other;
	return target_create(t);
}

static inline int target_destroy(struct target *t)
{
	int ret = 0;

	/* a case that hangs has abandoned the device, or there is none */
	if (t->lo.nr >= 0) {
		/* for an attached one LOOP_CLR_FD needs a descriptor */
		if (t->lo.fd < 0)
			ret = loop_open(&t->lo, O_RDONLY);
		ret = loop_destroy(&t->lo) ?: ret;
	}
	if (t->other >= 0)
		close(t->other);
	if (t->image >= 0)
		close(t->image);
	watch_close(&t->w);
	return ret;
}

/*
 * Nothing has happened since the last look, and no number was assigned without
 * an event either: a new disk gets the next one.
 */
static inline void check_no_number_used(struct __test_metadata *_metadata,
					struct target *t, __u64 old)
{
	__u64 by_ioctl = 0, fresh = 0;
	struct loop lo;

	check_nothing(_metadata, &t->w, old, false);
	if (t->lo.fd >= 0) {
		EXPECT_EQ(0, diskseq_ioctl(t->lo.fd, &by_ioctl));
		EXPECT_EQ(old, by_ioctl);
	}
	ASSERT_EQ(0, loop_create(&lo));
	EXPECT_EQ(0, diskseq_ioctl(lo.fd, &fresh));
	EXPECT_EQ(0, uevent_fence(t->w.nl, lo.name, &t->w.log));
	EXPECT_GT(fresh, old);
	EXPECT_EQ(0, uevent_unaccounted(t->w.nl, &t->w.log, old, fresh));
	EXPECT_EQ(0, loop_destroy(&lo));
	t->w.mark = t->w.log.nr;
}

#endif /* __DISKSEQ_TARGET_H */
