/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A loop device with two files that can be told apart wherever they are read.
 */
#ifndef __DISKSEQ_ORDER_H
#define __DISKSEQ_ORDER_H

#include "diskseq_peek.h"
#include "diskseq_target.h"

#define IMAGE_SIZE	0x100000
#define HALF		(IMAGE_SIZE / 2)

/* A file in memory, of one label but for the tables that it may get. */
static inline int labelled_file(off_t size, unsigned char label)
{
	char page[PAGE];
	off_t at;
	int fd;

	fd = backing_file(size, false);
	if (fd < 0)
		return fd;
	memset(page, label, sizeof(page));
	for (at = 0; at < size; at += PAGE) {
		size_t n = size - at < PAGE ? size - at : PAGE;

		if (pwrite(fd, page, n, at) != n) {
			close(fd);
			return -EIO;
		}
	}
	return fd;
}

/* The image is all 'a', the other file all 'b'; returns why not, or NULL. */
static inline const char *labelled_target(struct __test_metadata *_metadata,
					  struct target *t)
{
	const char *reason = target_init(t);

	if (reason)
		return reason;
	ASSERT_EQ(0, peek_init());
	t->image = labelled_file(IMAGE_SIZE, 'a');
	ASSERT_LE(0, t->image);
	t->other = labelled_file(IMAGE_SIZE, 'b');
	ASSERT_LE(0, t->other);
	ASSERT_EQ(0, target_create(t));
	return NULL;
}

FIXTURE(order)
{
	const char *reason;
	struct target t;
};

FIXTURE_SETUP(order)
{
	self->reason = labelled_target(_metadata, &self->t);
}

FIXTURE_TEARDOWN(order)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

#endif /* __DISKSEQ_ORDER_H */
