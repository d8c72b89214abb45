// SPDX-License-Identifier: GPL-2.0
/*
 * The offset of a loop device is moved: another medium, also for programs that have
 * the disk or a partition open, and one that claims them keeps the offset. A disk
 * that is only resized keeps its number.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdalign.h>

#include "diskseq.h"
#include "diskseq_opener.h"
#include "diskseq_partition.h"
#include "diskseq_peek.h"
#include "diskseq_target.h"

#define HALF		0x80000		/* of a file */
#define MAX_ROUNDS	400

/*
 * A loop device on a file of two halves. The pages of the one are all 'a', and
 * it has a partition table; those of the other are all 'b'.
 */

FIXTURE(loop)
{
	const char *reason;
	struct target t;
};

static int two_halves(void)
{
	unsigned char page[PAGE];
	off_t at;
	int fd;

	fd = backing_file(2 * HALF, false);
	if (fd < 0)
		return fd;
	for (at = 0; at < 2 * HALF; at += PAGE) {
		memset(page, at < HALF ? 'a' : 'b', sizeof(page));
		if (!at)
			table_two(page);
		if (pwrite(fd, page, sizeof(page), at) != sizeof(page))
			return -EIO;
	}
	return fd;
}

/* A page that was only read does not make the call fail, so do not retry. */
static int set_offset(int fd, __u64 offset, __u64 sizelimit)
{
	struct loop_info64 info;
	int ret;

	ret = loop_status(fd, &info);
	if (ret)
		return ret;
	info.lo_offset = offset;
	info.lo_sizelimit = sizelimit;
	return ioctl(fd, LOOP_SET_STATUS64, &info) ? -errno : 0;
}

/* What the second page begins with */
static int label(int fd)
{
	unsigned char c;

	return pread(fd, &c, 1, PAGE) == 1 ? c : -1;
}

FIXTURE_SETUP(loop)
{
	struct target *t = &self->t;

	self->reason = target_init(t);
	if (self->reason)
		return;
	t->image = two_halves();
	ASSERT_LE(0, t->image);
	ASSERT_EQ(0, target_create(t));
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, watch_settle(&t->w));
}

FIXTURE_TEARDOWN(loop)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

TEST_F(loop, another_offset_is_another_medium)
{
	struct watch *t = &self->t.w;
	struct loop_info info;
	__u64 seq;

	SKIP_IF(return, self->reason);

	seq = watch_number(t);
	EXPECT_EQ('a', label(self->t.lo.fd));
	ASSERT_EQ(0, set_offset(self->t.lo.fd, HALF, 0));
	/* one while the pages of both halves may be read */
	seq = check_change(_metadata, t, seq, 2, ANY_PARTITIONS);
	EXPECT_EQ('b', label(self->t.lo.fd));

	/* the old call */
	ASSERT_EQ(0, ioctl(self->t.lo.fd, LOOP_GET_STATUS, &info));
	info.lo_offset = 0;
	ASSERT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_STATUS, &info));
	check_change(_metadata, t, seq, 2, ANY_PARTITIONS);
	EXPECT_EQ('a', label(self->t.lo.fd));
}

TEST_F(loop, partitions_go_with_their_medium)
{
	struct watch *t = &self->t.w;
	struct news news;

	SKIP_IF(return, self->reason);

	EXPECT_TRUE(partition_exists(t->name, 2));
	ASSERT_EQ(0, set_offset(self->t.lo.fd, HALF, 0));
	EXPECT_FALSE(partition_exists(t->name, 2));
	ASSERT_EQ(0, set_offset(self->t.lo.fd, 0, 0));
	EXPECT_TRUE(partition_exists(t->name, 2));

	ASSERT_EQ(0, watch_hear(t, &news));
	EXPECT_EQ(NR_PARTITIONS, news.adds.nr);
	EXPECT_EQ(NR_PARTITIONS, news.removes.nr);
}

/* The opener would continue with the data of another place. */
TEST_F(loop, offset_stays_while_a_partition_is_claimed)
{
	struct watch *t = &self->t.w;
	__u64 seq;
	int fd, ret;

	SKIP_IF(return, self->reason);

	seq = watch_number(t);
	fd = open_partition(t->name, 1, O_RDONLY | O_EXCL);
	ASSERT_LE(0, fd);
	ret = set_offset(self->t.lo.fd, HALF, 0);
	EXPECT_TRUE(ret == -EBUSY || ret == -EAGAIN) {
		TH_LOG("returned %d", ret);
	}
	check_nothing(_metadata, t, seq, false);
	EXPECT_EQ('a', label(fd));
	close(fd);
	EXPECT_EQ(0, set_offset(self->t.lo.fd, HALF, 0));
}

TEST_F(loop, offset_stays_while_the_disk_is_claimed)
{
	struct watch *t = &self->t.w;
	struct loop_info64 info;
	__u64 seq;
	int fd;

	SKIP_IF(return, self->reason);

	seq = watch_number(t);
	fd = open_disk(t->name, O_RDONLY | O_EXCL);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBUSY, set_offset(self->t.lo.fd, HALF, 0));
	check_nothing(_metadata, t, seq, false);
	ASSERT_EQ(0, loop_status(self->t.lo.fd, &info));
	EXPECT_EQ(0, info.lo_offset);
	EXPECT_EQ('a', label(fd));

	/* a filesystem that is mounted may grow, and the rest be set */
	info.lo_sizelimit = HALF;
	EXPECT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_STATUS64, &info));
	EXPECT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_CAPACITY));
	info.lo_flags |= LO_FLAGS_AUTOCLEAR;
	EXPECT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_STATUS64, &info));
	info.lo_flags &= ~LO_FLAGS_AUTOCLEAR;
	EXPECT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_STATUS64, &info));
	check_nothing(_metadata, t, seq, true);
	close(fd);
	EXPECT_EQ(0, set_offset(self->t.lo.fd, HALF, 0));
}

/* The opener that has claimed the disk may do what it did before. */
TEST_F(loop, offset_is_moved_for_the_opener_that_has_claimed_the_disk)
{
	struct watch *t = &self->t.w;
	__u64 seq;

	SKIP_IF(return, self->reason);

	loop_close(&self->t.lo);
	ASSERT_EQ(0, loop_open(&self->t.lo, O_RDWR | O_EXCL));
	seq = watch_number(t);
	ASSERT_EQ(0, set_offset(self->t.lo.fd, HALF, 0));
	EXPECT_LT(seq, watch_number(t));
	EXPECT_EQ('b', label(self->t.lo.fd));
}

static void swap_off(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/%.32s", name);
	syscall(__NR_swapoff, path);
}

TEST_F(loop, offset_stays_under_active_swap)
{
	const __u32 header[] = { 1, 2 * HALF / PAGE - 1, 0 };
	struct watch *t = &self->t.w;
	char path[80];
	__u64 seq;

	SKIP_IF(return, self->reason);
	if (sysconf(_SC_PAGESIZE) != PAGE)
		SKIP(return, "needs pages of %d bytes", PAGE);
	if (access("/proc/swaps", F_OK))
		SKIP(return, "needs CONFIG_SWAP");

	ASSERT_EQ(sizeof(header), pwrite(self->t.lo.fd, header, sizeof(header), 1024));
	ASSERT_EQ(10, pwrite(self->t.lo.fd, "SWAPSPACE2", 10, PAGE - 10));
	snprintf(path, sizeof(path), "/dev/%s", t->name);
	ASSERT_EQ(0, leftover_expect(t->name, swap_off));
	ASSERT_EQ(0, syscall(__NR_swapon, path, 0));
	seq = watch_number(t);
	EXPECT_EQ(-EBUSY, set_offset(self->t.lo.fd, HALF, 0));
	check_nothing(_metadata, t, seq, false);
	EXPECT_EQ(0, syscall(__NR_swapoff, path));
	leftover_gone(t->name);
}

static int read_at(int fd, char *page, off_t at)
{
	ssize_t len = pread(fd, page, PAGE, at);

	return len < 0 ? -errno : (int)len;
}

/* A table of one partition at the begin of the second half of the file */
static int add_second_table(int image, unsigned char start)
{
	const unsigned char table[64] = { [4] = 0x83, [8] = start, [12] = 64 };

	return pwrite(image, table, sizeof(table), HALF + 446) == sizeof(table) &&
	       pwrite(image, "\x55\xaa", 2, HALF + 510) == 2 ? 0 : -EIO;
}

/*
 * Openers of the old place's partitions, such as udev, do not keep the offset
 * where it is. They get errors, and not what is at the new place.
 */
TEST_F(loop, open_partition_of_the_old_place_gives_errors)
{
	static alignas(PAGE) char page[PAGE];
	struct watch *t = &self->t.w;
	int p1, direct, fd;
	unsigned char *map;
	__u64 seq;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, peek_init());
	ASSERT_EQ(0, add_second_table(self->t.image, 96));
	seq = watch_number(t);
	p1 = open_partition(t->name, 1, O_RDWR);
	ASSERT_LE(0, p1);
	direct = open_partition(t->name, 1, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, direct);
	map = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, p1, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ('a', label(p1));
	EXPECT_EQ('a', peek(map + PAGE));
	ASSERT_EQ(PAGE, pread(direct, page, PAGE, PAGE));
	EXPECT_EQ('a', page[0]);
	/* not synced: it belongs to the old place */
	memset(page, 'x', sizeof(page));
	ASSERT_EQ(PAGE, pwrite(p1, page, PAGE, 3 * PAGE));

	ASSERT_EQ(0, set_offset(self->t.lo.fd, HALF, 0));
	EXPECT_LT(seq, watch_number(t));

	/* what was cached, what was not, and by either way: no end of file */
	EXPECT_EQ(-EIO, read_at(p1, page, PAGE));
	EXPECT_EQ(-EIO, read_at(p1, page, 2 * PAGE));
	EXPECT_EQ(-EIO, read_at(direct, page, PAGE));
	EXPECT_EQ(-EIO, peek(map + PAGE));
	EXPECT_EQ(-EIO, peek(map + 2 * PAGE));
	/* nothing of it is written to the new place */
	if (pwrite(p1, page, PAGE, 2 * PAGE) == PAGE)
		EXPECT_EQ(-1, fsync(p1));

	/* and the new place's partition is there although the old is open */
	EXPECT_EQ(96, partition_start(t->name, 1));
	EXPECT_EQ(-ENOENT, partition_start(t->name, 2));
	fd = open_partition(t->name, 1, O_RDONLY);
	EXPECT_LE(0, fd);
	EXPECT_EQ('b', label(fd));
	close(fd);
	munmap(map, 4 * PAGE);
	close(direct);
	close(p1);
	EXPECT_EQ(96, partition_start(t->name, 1));
	fd = open_partition(t->name, 1, O_RDONLY);
	EXPECT_LE(0, fd);
	EXPECT_EQ('b', label(fd));
	close(fd);

	ASSERT_EQ(PAGE, pread(self->t.image, page, PAGE, 64 * 512 + 3 * PAGE));
	EXPECT_EQ('x', page[0]);
	ASSERT_EQ(PAGE, pread(self->t.image, page, PAGE, HALF + 64 * 512 + 3 * PAGE));
	EXPECT_EQ('b', page[0]);
	ASSERT_EQ(PAGE, pread(self->t.image, page, PAGE, HALF + 96 * 512 + 3 * PAGE));
	EXPECT_EQ('b', page[0]);
}

#define NR_WRITES	20

/* Writes to a partition until that fails. */
struct part_writer {
	int fd;
	unsigned int written;
};

static void *part_writer_run(void *arg)
{
	static __thread alignas(PAGE) char page[PAGE];
	struct part_writer *w = arg;

	memset(page, 'x', sizeof(page));
	while (pwrite(w->fd, page, PAGE, 0) == PAGE)
		counter_inc(&w->written);
	return NULL;
}

/*
 * A write to a partition may have found its place on the disk, and wait, when the
 * offset is moved.
 */
TEST_F(loop, write_that_waits_for_the_move_does_not_reach_the_new_place)
{
	struct watch *t = &self->t.w;
	unsigned int harmed = 0;
	char page[PAGE];
	int i;

	SKIP_IF(return, self->reason);
	if (kernel_is_before(5, 11))
		SKIP(return, "a waiting write does not know its partition before 5.11");

	for (i = 0; i < NR_WRITES; i++) {
		struct part_writer w = {};
		pthread_t thread;

		w.fd = open_partition(t->name, 1, O_WRONLY | O_DIRECT);
		ASSERT_LE(0, w.fd);
		ASSERT_EQ(0, pthread_create(&thread, NULL, part_writer_run, &w));
		EXPECT_TRUE(wait_for_count(&w.written, 1));
		EXPECT_EQ(0, set_offset(self->t.lo.fd, HALF, 0));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		close(w.fd);

		ASSERT_EQ(PAGE, pread(self->t.image, page, PAGE, HALF + 64 * 512));
		harmed += page[0] != 'b';
		memset(page, 'b', sizeof(page));
		ASSERT_EQ(PAGE, pwrite(self->t.image, page, PAGE, HALF + 64 * 512));
		ASSERT_EQ(0, set_offset(self->t.lo.fd, 0, 0));
	}
	EXPECT_EQ(0, harmed) {
		TH_LOG("%u of %d writes", harmed, NR_WRITES);
	}
}

#define NR_MOVES	60

/* The way of programs from before LOOP_CONFIGURE: attach, then set the offset */
TEST_F_TIMEOUT(loop, offset_is_set_while_a_partition_is_looked_at, 120)
{
	unsigned int refused = 0, missing = 0;
	struct watch *t = &self->t.w;
	struct opener op;
	int i, ret;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, add_second_table(self->t.image, 96));
	ASSERT_EQ(0, loop_detach(self->t.lo.fd));
	ASSERT_EQ(0, opener_start(&op, t->name, true));
	for (i = 0; i < NR_MOVES; i++) {
		unsigned int before = counter_read(&op.opens);

		ASSERT_EQ(0, loop_configure(self->t.lo.fd, self->t.image,
					    LO_FLAGS_PARTSCAN));
		ASSERT_TRUE(wait_for_count(&op.opens, before + 1));
		ret = set_offset(self->t.lo.fd, HALF, 0);
		if (ret)
			refused++;
		else if (partition_start(t->name, 1) != 96)
			missing++;
		ASSERT_TRUE(!ret || ret == -EAGAIN || ret == -EBUSY) {
			TH_LOG("%s", strerror(-ret));
		}
		ASSERT_EQ(0, loop_detach(self->t.lo.fd));
	}
	opener_stop(&op);
	EXPECT_EQ(0, refused) {
		TH_LOG("%u of %d refused", refused, NR_MOVES);
	}
	EXPECT_EQ(0, missing) {
		TH_LOG("%u of %d times without the new partition", missing,
		       NR_MOVES);
	}
}

TEST_F_TIMEOUT(loop, offset_is_set_while_the_disk_is_looked_at, 120)
{
	struct watch *t = &self->t.w;
	unsigned int refused = 0;
	struct opener op;
	int i, ret;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_detach(self->t.lo.fd));
	ASSERT_EQ(0, opener_start(&op, t->name, false));
	for (i = 0; i < NR_MOVES; i++) {
		unsigned int before = counter_read(&op.opens);

		ASSERT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_FD, self->t.image));
		/* sooner or later than it is opened */
		if (i & 1)
			ASSERT_TRUE(wait_for_count(&op.opens, before + 1));
		ret = set_offset(self->t.lo.fd, HALF, 0);
		refused += ret == -EAGAIN || ret == -EBUSY;
		ASSERT_TRUE(!ret || ret == -EAGAIN || ret == -EBUSY);
		EXPECT_EQ(ret ? 'a' : 'b', label(self->t.lo.fd));
		ASSERT_EQ(0, loop_detach(self->t.lo.fd));
	}
	EXPECT_LT(0, opener_stop(&op));
	EXPECT_EQ(0, refused) {
		TH_LOG("%u of %d refused", refused, NR_MOVES);
	}
}

TEST_F(loop, a_new_size_is_no_new_medium)
{
	struct watch *t = &self->t.w;
	__u64 seq;

	SKIP_IF(return, self->reason);

	seq = watch_number(t);
	ASSERT_EQ(0, set_offset(self->t.lo.fd, 0, HALF));
	check_nothing(_metadata, t, seq, true);
	ASSERT_EQ(0, set_offset(self->t.lo.fd, 0, 0));
	check_nothing(_metadata, t, seq, true);
	ASSERT_EQ(0, ftruncate(self->t.image, 3 * HALF));
	ASSERT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_CAPACITY));
	check_nothing(_metadata, t, seq, true);
}

TEST_F(loop, a_status_that_is_refused_changes_nothing)
{
	struct watch *t = &self->t.w;
	struct loop_info64 info;
	__u64 seq;

	SKIP_IF(return, self->reason);

	seq = watch_number(t);
	ASSERT_EQ(0, loop_status(self->t.lo.fd, &info));
	info.lo_offset = HALF;
	info.lo_encrypt_key_size = LO_KEY_SIZE + 1;
	EXPECT_EQ(-1, ioctl(self->t.lo.fd, LOOP_SET_STATUS64, &info));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(self->t.lo.fd, LOOP_SET_STATUS64, NULL));
	EXPECT_EQ(EFAULT, errno);
	check_nothing(_metadata, t, seq, false);
	EXPECT_EQ('a', label(self->t.lo.fd));
}

struct reader {
	const char *name;
	char part[40];
	bool stop;
	struct {
		__u64 seq;
		int label;
	} log[4096];
	size_t nr;
};

/* By turns the disk, cached and not, and a partition */
static void *reader_run(void *arg)
{
	static __thread alignas(PAGE) char page[PAGE];
	struct reader *r = arg;
	unsigned int i;

	for (i = 0; !flag_is_set(&r->stop); i++) {
		__u64 seq, again;
		int fd;

		fd = open_disk(i % 3 == 2 ? r->part : r->name,
			       i % 3 == 1 ? O_RDONLY | O_DIRECT : O_RDONLY);
		if (fd < 0)
			continue;
		if (!diskseq_ioctl(fd, &seq) &&
		    pread(fd, page, PAGE, (1 + i % 4) * PAGE) == PAGE &&
		    !diskseq_ioctl(fd, &again) && seq == again &&
		    r->nr < ARRAY_SIZE(r->log) &&
		    (!r->nr || seq != r->log[r->nr - 1].seq ||
		     page[0] != r->log[r->nr - 1].label)) {
			r->log[r->nr].seq = seq;
			r->log[r->nr++].label = page[0];
		}
		close(fd);
		nap();
	}
	return NULL;
}

TEST_F(loop, readers_see_one_place_under_one_number)
{
	int rounds = test_rounds(MAX_ROUNDS), i;
	struct watch *t = &self->t.w;
	__u64 seqs[MAX_ROUNDS];
	unsigned int wrong = 0;
	struct reader *r;
	pthread_t thread;
	size_t n;

	SKIP_IF(return, self->reason);

	r = calloc(1, sizeof(*r));
	ASSERT_NE(NULL, r);
	r->name = t->name;
	snprintf(r->part, sizeof(r->part), "%s/%sp1", self->t.lo.name,
		 self->t.lo.name);
	ASSERT_EQ(0, pthread_create(&thread, NULL, reader_run, r));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, set_offset(self->t.lo.fd, i % 2 ? 0 : HALF, 0));
		seqs[i] = watch_number(t);
		if (i)
			EXPECT_LT(seqs[i - 1], seqs[i]);
		nap();
		nap();
	}
	flag_set(&r->stop);
	ASSERT_EQ(0, pthread_join(thread, NULL));

	for (n = 0; n < r->nr; n++) {
		for (i = 0; i < rounds; i++)
			if (r->log[n].seq == seqs[i])
				break;
		if (i < rounds && r->log[n].label != (i % 2 ? 'a' : 'b'))
			wrong++;
	}
	EXPECT_EQ(0, wrong) {
		TH_LOG("%u of %zu", wrong, r->nr);
	}
	EXPECT_LT(0, r->nr);
	free(r);
}

TEST_HARNESS_MAIN
