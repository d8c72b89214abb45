// SPDX-License-Identifier: GPL-2.0
/*
 * A loop device or a partition that grows: the page at its old end was filled up
 * with zeroes when it was read, and shows what is in the file from then on.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq.h"
#include "diskseq_order.h"
#include "diskseq_partition.h"

#define NR_GROWS	40
#define OLD_END		4608	/* a page and a sector */
#define NEW_END		8192

/* Where the device first differs from what is at @shift of the file, or -1. */
static long differs_at(int fd, unsigned char *map, char label)
{
	char buf[NEW_END];
	long i;

	if (pread(fd, buf, NEW_END, 0) != NEW_END)
		return 0;
	for (i = 0; i < NEW_END; i++)
		if (buf[i] != label)
			return i;
	for (i = 0; i < NEW_END; i += 64)
		if (peek(map + i) != label)
			return NEW_END + i;
	return -1;
}

TEST_F(order, page_at_the_old_end_shows_the_file_when_the_file_has_grown)
{
	struct watch *t = &self->t.w;
	unsigned char *map;
	char page[PAGE];
	__u64 seq;
	int file;

	SKIP_IF(return, self->reason);

	file = labelled_file(OLD_END, 'a');
	ASSERT_LE(0, file);
	ASSERT_EQ(0, loop_configure(self->t.lo.fd, file, 0));
	seq = watch_number(t);
	EXPECT_EQ(OLD_END - PAGE, pread(self->t.lo.fd, page, PAGE, PAGE));
	map = mmap(NULL, NEW_END, PROT_READ, MAP_SHARED, self->t.lo.fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ('a', peek(map + PAGE));

	memset(page, 'a', sizeof(page));
	ASSERT_EQ(NEW_END - OLD_END, pwrite(file, page, NEW_END - OLD_END, OLD_END));
	ASSERT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_CAPACITY));
	EXPECT_EQ(-1, differs_at(self->t.lo.fd, map, 'a'));
	EXPECT_EQ(seq, watch_number(t));
	munmap(map, NEW_END);
	close(file);
}

/* What was written there and is not yet in the file is not lost. */
TEST_F(order, page_at_the_old_end_keeps_what_was_written_when_the_file_has_grown)
{
	char page[PAGE];
	int file;

	SKIP_IF(return, self->reason);

	file = labelled_file(OLD_END, 'b');
	ASSERT_LE(0, file);
	ASSERT_EQ(0, loop_configure(self->t.lo.fd, file, 0));
	memset(page, 'a', sizeof(page));
	ASSERT_EQ(OLD_END - PAGE, pwrite(self->t.lo.fd, page, OLD_END - PAGE, PAGE));
	ASSERT_EQ(NEW_END - OLD_END, pwrite(file, page, NEW_END - OLD_END, OLD_END));
	ASSERT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_CAPACITY));
	memset(page, 0, sizeof(page));
	ASSERT_EQ(PAGE, pread(self->t.lo.fd, page, PAGE, PAGE));
	EXPECT_EQ('a', page[0]);
	EXPECT_EQ('a', page[PAGE - 1]);
	ASSERT_EQ(0, fsync(self->t.lo.fd));
	memset(page, 0, sizeof(page));
	ASSERT_EQ(PAGE, pread(file, page, PAGE, PAGE));
	EXPECT_EQ('a', page[0]);
	EXPECT_EQ('a', page[PAGE - 1]);
	close(file);
}

/* Reads the page at the old end over and over, and so brings it in, or writes it. */
struct end_user {
	pthread_t thread;
	int fd;
	bool stop;
	unsigned int times;
};

static void *read_the_end(void *arg)
{
	struct end_user *r = arg;
	unsigned int seed = 1;
	char page[PAGE];
	int i;

	while (!flag_is_set(&r->stop)) {
		if (pread(r->fd, page, PAGE, PAGE) > 0)
			counter_inc(&r->times);
		/* while the page is cached, another limit is refused */
		for (i = rand_r(&seed) % 40; i > 0; i--)
			nap();
	}
	return NULL;
}

static void *write_the_end(void *arg)
{
	struct end_user *w = arg;
	unsigned int seed = 1;
	int i;

	while (!flag_is_set(&w->stop)) {
		if (pwrite(w->fd, "a", 1, PAGE) == 1)
			counter_inc(&w->times);
		for (i = rand_r(&seed) % 8; i > 0; i--)
			nap();
	}
	return NULL;
}

static int set_limit(int fd, __u64 limit)
{
	struct loop_info64 info;
	int ret = loop_status(fd, &info);

	if (ret)
		return ret;
	info.lo_sizelimit = limit;
	return ioctl(fd, LOOP_SET_STATUS64, &info) ? -errno : 0;
}

/*
 * A kernel may refuse another limit while a page is dirty; the unpatched one does
 * while a page is cached, too.
 */
static int set_limit_patiently(int fd, __u64 limit)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	while ((ret = set_limit(fd, limit)) == -EAGAIN && now_ms() < deadline)
		nap();
	return ret;
}

TEST_F(order, page_at_the_old_end_shows_the_file_when_the_limit_is_raised)
{
	unsigned int wrong = 0;
	struct end_user r = {};
	unsigned char *map;
	int i, ret = 0;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(self->t.lo.fd, self->t.image, 0));
	ASSERT_EQ(0, set_limit(self->t.lo.fd, OLD_END));
	r.fd = open_disk(self->t.lo.name, O_RDONLY);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, pthread_create(&r.thread, NULL, read_the_end, &r));
	for (i = 0; !ret && i < NR_GROWS; i++) {
		ret = set_limit_patiently(self->t.lo.fd, NEW_END);
		if (ret)
			break;
		map = mmap(NULL, NEW_END, PROT_READ, MAP_SHARED, self->t.lo.fd, 0);
		if (map == MAP_FAILED) {
			ret = -errno;
			break;
		}
		if (differs_at(self->t.lo.fd, map, 'a') >= 0)
			wrong++;
		munmap(map, NEW_END);
		ret = set_limit_patiently(self->t.lo.fd, OLD_END);
	}
	flag_set(&r.stop);
	pthread_join(r.thread, NULL);
	close(r.fd);
	ASSERT_EQ(0, ret);
	EXPECT_LT(0, r.times);
	EXPECT_EQ(0, wrong);
}

/*
 * A page that is dirty when the limit is raised ends in zeroes. One that a write
 * brings in at that very moment still does: 1 of 80, where it was 94 of 200.
 */
TEST_F_TIMEOUT(order, what_is_behind_the_old_end_stays_when_the_limit_is_raised, 120)
{
	unsigned int wrong = 0;
	struct end_user w = {};
	char tail[NEW_END - OLD_END], page[NEW_END - OLD_END];
	int i, ret = 0;

	SKIP_IF(return, self->reason);

	memset(tail, 'a', sizeof(tail));
	ASSERT_EQ(0, loop_configure(self->t.lo.fd, self->t.image, 0));
	ASSERT_EQ(0, set_limit(self->t.lo.fd, OLD_END));
	w.fd = open_disk(self->t.lo.name, O_RDWR);
	ASSERT_LE(0, w.fd);
	ASSERT_EQ(0, pthread_create(&w.thread, NULL, write_the_end, &w));
	for (i = 0; !ret && i < 2 * NR_GROWS; i++) {
		ret = set_limit_patiently(self->t.lo.fd, NEW_END);
		if (ret)
			break;
		fsync(self->t.lo.fd);
		if (pread(self->t.image, page, sizeof(page), OLD_END) !=
		    sizeof(page) || memcmp(page, tail, sizeof(tail)))
			wrong++;
		ret = set_limit_patiently(self->t.lo.fd, OLD_END);
		if (pwrite(self->t.image, tail, sizeof(tail), OLD_END) !=
		    sizeof(tail))
			ret = -EIO;
	}
	flag_set(&w.stop);
	pthread_join(w.thread, NULL);
	close(w.fd);
	ASSERT_EQ(0, ret);
	EXPECT_LT(0, w.times);
	EXPECT_GE(i / 10, wrong) {
		TH_LOG("%u of %d, %u writes", wrong, i, w.times);
	}
}

TEST_F(order, page_at_the_old_end_of_a_partition_shows_the_file_when_it_grows)
{
	const long long start = 64 * SECTOR;
	unsigned char *map;
	char page[PAGE];
	int p1;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(self->t.lo.fd, self->t.image, 0));
	ASSERT_EQ(0, partition_ioctl(self->t.lo.fd, BLKPG_ADD_PARTITION, 1,
				     start, OLD_END));
	p1 = open_partition(self->t.lo.name, 1, O_RDONLY);
	ASSERT_LE(0, p1);
	EXPECT_EQ(OLD_END - PAGE, pread(p1, page, PAGE, PAGE));
	map = mmap(NULL, NEW_END, PROT_READ, MAP_SHARED, p1, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ('a', peek(map + PAGE));
	ASSERT_EQ(0, partition_ioctl(self->t.lo.fd, BLKPG_RESIZE_PARTITION, 1,
				     start, NEW_END));
	EXPECT_EQ(-1, differs_at(p1, map, 'a'));
	munmap(map, NEW_END);
	close(p1);
}

TEST_HARNESS_MAIN
