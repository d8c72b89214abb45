// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that get other content under the name they have: a loop device whose
 * offset is moved, a zram device that is reset, a null_blk device that is
 * switched off and on. Each time the number is a new one and announced; a disk
 * that is only resized keeps it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdalign.h>

#include "diskseq_watch.h"

#define HALF		0x80000		/* of a file */
#define PAGE		4096
#define ZRAM_CONTROL	"/sys/class/zram-control/"
#define NR_PARTITIONS	2
#define MAX_ROUNDS	400

/*
 * A loop device on a file of two halves. The pages of the one are all 'a', and
 * it has a partition table; those of the other are all 'b'.
 */

FIXTURE(loop)
{
	const char *reason;
	struct watch t;
	struct loop lo;
	int image;
};

static int two_halves(void)
{
	char page[PAGE], table[512];
	off_t at;
	int fd;

	fd = backing_file(2 * HALF, true);
	if (fd < 0 || pread(fd, table, sizeof(table), 0) != sizeof(table))
		return fd < 0 ? fd : -EIO;
	for (at = 0; at < 2 * HALF; at += PAGE) {
		memset(page, at < HALF ? 'a' : 'b', sizeof(page));
		if (!at)
			memcpy(page + 446, table + 446, 512 - 446);
		if (pwrite(fd, page, sizeof(page), at) != sizeof(page))
			return -EIO;
	}
	return fd;
}

static int set_offset(int fd, __u64 offset, __u64 sizelimit)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct loop_info64 info;
	int ret;

	ret = loop_status(fd, &info);
	if (ret)
		return ret;
	info.lo_offset = offset;
	info.lo_sizelimit = sizelimit;
	/* EAGAIN: somebody brings pages in again and again */
	while (ioctl(fd, LOOP_SET_STATUS64, &info)) {
		if (errno != EAGAIN || now_ms() > deadline)
			return -errno;
		nap();
	}
	return 0;
}

/* What the second page begins with */
static int label(int fd)
{
	unsigned char c;

	return pread(fd, &c, 1, PAGE) == 1 ? c : -1;
}

FIXTURE_SETUP(loop)
{
	memset(self, 0, sizeof(*self));
	self->lo.nr = -1;
	self->lo.fd = -1;
	self->reason = loop_unusable();
	if (self->reason)
		return;
	self->image = two_halves();
	ASSERT_LE(0, self->image);
	self->t.nl = uevent_open();
	ASSERT_LE(0, self->t.nl);
	ASSERT_EQ(0, loop_create(&self->lo));
	strcpy(self->t.name, self->lo.name);
	ASSERT_EQ(0, loop_configure(self->lo.fd, self->image, LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, watch_settle(&self->t));
}

FIXTURE_TEARDOWN(loop)
{
	if (self->lo.nr < 0)
		return;
	EXPECT_EQ(0, loop_destroy(&self->lo));
	close(self->image);
	close(self->t.nl);
	free(self->t.log.ev);
}

TEST_F(loop, another_offset_is_another_medium)
{
	struct watch *t = &self->t;
	struct loop_info info;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	seq = watch_number(t);
	EXPECT_EQ('a', label(self->lo.fd));
	ASSERT_EQ(0, set_offset(self->lo.fd, HALF, 0));
	/* one while the pages of both halves may be read */
	seq = check_change(_metadata, t, seq, 2);
	EXPECT_EQ('b', label(self->lo.fd));

	/* the old call */
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_GET_STATUS, &info));
	info.lo_offset = 0;
	while (ioctl(self->lo.fd, LOOP_SET_STATUS, &info))
		ASSERT_EQ(EAGAIN, errno);
	check_change(_metadata, t, seq, 2);
	EXPECT_EQ('a', label(self->lo.fd));
}

TEST_F(loop, partitions_go_with_their_medium)
{
	unsigned int adds = 0, removes = 0;
	struct watch *t = &self->t;
	char part[64];
	size_t i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	snprintf(part, sizeof(part), "/sys/block/%s/%sp2", self->lo.name,
		 self->lo.name);
	EXPECT_EQ(0, access(part, F_OK));
	ASSERT_EQ(0, set_offset(self->lo.fd, HALF, 0));
	EXPECT_EQ(-1, access(part, F_OK));
	ASSERT_EQ(0, set_offset(self->lo.fd, 0, 0));
	EXPECT_EQ(0, access(part, F_OK));

	ASSERT_EQ(0, uevent_fence(t->nl, t->name, &t->log));
	for (i = t->mark; i < t->log.nr; i++) {
		const struct uevent *ev = &t->log.ev[i];

		if (!uevent_is_own(ev, t->name) || !ev->partition)
			continue;
		adds += uevent_is_add(ev);
		removes += uevent_is_remove(ev);
	}
	EXPECT_EQ(NR_PARTITIONS, adds);
	EXPECT_EQ(NR_PARTITIONS, removes);
}

/* It would go on with the data of another place. */
TEST_F(loop, offset_stays_while_a_partition_is_in_use)
{
	struct watch *t = &self->t;
	struct loop_info64 info;
	char part[40];
	__u64 seq;
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	seq = watch_number(t);
	snprintf(part, sizeof(part), "%s/%sp1", self->lo.name, self->lo.name);
	fd = open_disk(part, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, loop_status(self->lo.fd, &info));
	info.lo_offset = HALF;
	EXPECT_EQ(-1, ioctl(self->lo.fd, LOOP_SET_STATUS64, &info));
	EXPECT_EQ(EAGAIN, errno);
	check_nothing(_metadata, t, seq, false);
	EXPECT_EQ('a', label(fd));
	close(fd);
}

TEST_F(loop, a_new_size_is_no_new_medium)
{
	struct watch *t = &self->t;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	seq = watch_number(t);
	ASSERT_EQ(0, set_offset(self->lo.fd, 0, HALF));
	check_nothing(_metadata, t, seq, true);
	ASSERT_EQ(0, set_offset(self->lo.fd, 0, 0));
	check_nothing(_metadata, t, seq, true);
	ASSERT_EQ(0, ftruncate(self->image, 3 * HALF));
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_SET_CAPACITY));
	check_nothing(_metadata, t, seq, true);
}

TEST_F(loop, a_status_that_is_refused_changes_nothing)
{
	struct watch *t = &self->t;
	struct loop_info64 info;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	seq = watch_number(t);
	ASSERT_EQ(0, loop_status(self->lo.fd, &info));
	info.lo_offset = HALF;
	info.lo_encrypt_key_size = LO_KEY_SIZE + 1;
	EXPECT_EQ(-1, ioctl(self->lo.fd, LOOP_SET_STATUS64, &info));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(self->lo.fd, LOOP_SET_STATUS64, NULL));
	EXPECT_EQ(EFAULT, errno);
	check_nothing(_metadata, t, seq, false);
	EXPECT_EQ('a', label(self->lo.fd));
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

	for (i = 0; !__atomic_load_n(&r->stop, __ATOMIC_RELAXED); i++) {
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
		/* a page or an open partition keeps the offset where it is */
		nap();
	}
	return NULL;
}

TEST_F(loop, readers_see_one_place_under_one_number)
{
	int rounds = test_rounds(MAX_ROUNDS), i;
	struct watch *t = &self->t;
	__u64 seqs[MAX_ROUNDS];
	unsigned int wrong = 0;
	struct reader *r;
	pthread_t thread;
	size_t n;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	r = calloc(1, sizeof(*r));
	ASSERT_NE(NULL, r);
	r->name = t->name;
	snprintf(r->part, sizeof(r->part), "%s/%sp1", self->lo.name,
		 self->lo.name);
	ASSERT_EQ(0, pthread_create(&thread, NULL, reader_run, r));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, set_offset(self->lo.fd, i % 2 ? 0 : HALF, 0));
		seqs[i] = watch_number(t);
		if (i)
			EXPECT_LT(seqs[i - 1], seqs[i]);
		nap();
		nap();
	}
	__atomic_store_n(&r->stop, true, __ATOMIC_RELAXED);
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

/* zram */

FIXTURE(zram)
{
	const char *reason;
	struct watch t;
};

static int zram_write(struct watch *t, const char *attr, const char *val)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/%s", t->name, attr);
	return write_text(path, val);
}

/* udev may have it open for a moment */
static int zram_reset(struct watch *t)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	while ((ret = zram_write(t, "reset", "1")) == -EBUSY &&
	       udev_is_running() && now_ms() < deadline)
		nap();
	return ret;
}

/* By its name; udev may have it open for a moment. */
static int zram_hot_remove(const char *name)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	while ((ret = write_text(ZRAM_CONTROL "hot_remove",
				 name + strlen("zram"))) == -EBUSY &&
	       now_ms() < deadline)
		nap();
	return ret;
}

static void zram_remove(const char *name)
{
	zram_hot_remove(name);
}

FIXTURE_SETUP(zram)
{
	struct watch *t = &self->t;
	char buf[32];
	int fd;

	memset(self, 0, sizeof(*self));
	if (geteuid()) {
		self->reason = "needs root";
		return;
	}
	if (access(ZRAM_CONTROL, F_OK))
		load_module("zram", "num_devices=0");
	if (access(ZRAM_CONTROL, F_OK)) {
		self->reason = "needs zram";
		return;
	}
	ASSERT_EQ(0, read_text(ZRAM_CONTROL "hot_add", buf, sizeof(buf)));
	snprintf(t->name, sizeof(t->name), "zram%d", atoi(buf));
	ASSERT_EQ(0, leftover_expect(t->name, zram_remove));
	fd = open_disk(t->name, O_RDONLY);
	ASSERT_LE(0, fd);
	if (!has_diskseq(t->name, fd))
		self->reason = "kernel has no disk sequence numbers";
	close(fd);
	t->nl = uevent_open();
	ASSERT_LE(0, t->nl);
	ASSERT_EQ(0, watch_settle(t));
}

FIXTURE_TEARDOWN(zram)
{
	struct watch *t = &self->t;

	if (!t->name[0])
		return;
	EXPECT_EQ(0, zram_hot_remove(t->name));
	leftover_gone(t->name);
	close(t->nl);
	free(t->log.ev);
}

TEST_F(zram, size_and_reset_are_media_changes)
{
	struct watch *t = &self->t;
	__u64 seq;
	int fd, i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	seq = watch_number(t);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, zram_write(t, "disksize", "1M"));
		seq = check_change(_metadata, t, seq, 1);

		fd = open_disk(t->name, O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, label(fd));
		EXPECT_EQ(1, pwrite(fd, "x", 1, PAGE));
		EXPECT_EQ('x', label(fd));
		close(fd);
		check_nothing(_metadata, t, seq, false);

		ASSERT_EQ(0, zram_reset(t));
		seq = check_change(_metadata, t, seq, 1);
	}
}

TEST_F(zram, what_is_refused_changes_nothing)
{
	struct watch *t = &self->t;
	__u64 seq;
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	seq = watch_number(t);
	EXPECT_EQ(-EINVAL, zram_write(t, "disksize", "0"));
	ASSERT_EQ(0, zram_reset(t));
	check_nothing(_metadata, t, seq, false);

	ASSERT_EQ(0, zram_write(t, "disksize", "1M"));
	seq = check_change(_metadata, t, seq, 1);
	fd = open_disk(t->name, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBUSY, zram_write(t, "disksize", "2M"));
	EXPECT_EQ(-EBUSY, zram_write(t, "reset", "1"));
	close(fd);
	check_nothing(_metadata, t, seq, false);
}

/* null_blk */

static int null_blk_write(const char *item, const char *attr, const char *val)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", item, attr);
	return write_text(path, val);
}

/* It may keep its memory and its name, but it is a new disk. */
TEST(null_blk_switched_on_again_has_a_new_number)
{
	__u64 seq[2] = { 0, 0 };
	char item[64], path[128], buf[16], name[64];
	int i, fd;

	if (geteuid() || !have_null_blk())
		SKIP(return, "needs root, null_blk and configfs");

	snprintf(item, sizeof(item), NULL_BLK "/diskseq_%d", getpid());
	ASSERT_EQ(0, mkdir(item, 0700));
	EXPECT_EQ(0, null_blk_write(item, "size", "1"));
	EXPECT_EQ(0, null_blk_write(item, "memory_backed", "1"));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, null_blk_write(item, "power", "1"));
		/* named by its item or by its index */
		snprintf(name, sizeof(name), "%s", strrchr(item, '/') + 1);
		snprintf(path, sizeof(path), "/sys/block/%s", name);
		if (access(path, F_OK)) {
			snprintf(path, sizeof(path), "%s/index", item);
			EXPECT_EQ(0, read_text(path, buf, sizeof(buf)));
			snprintf(name, sizeof(name), "nullb%d", atoi(buf));
		}
		fd = open_disk(name, O_RDWR);
		EXPECT_LE(0, fd);
		if (fd >= 0 && !has_diskseq(name, fd)) {
			close(fd);
			rmdir(item);
			SKIP(return, "kernel has no disk sequence numbers");
		}
		EXPECT_EQ(0, diskseq_ioctl(fd, &seq[i]));
		close(fd);
		EXPECT_EQ(0, null_blk_write(item, "power", "0"));
	}
	EXPECT_EQ(0, rmdir(item));
	EXPECT_LT(seq[0], seq[1]);
}

TEST_HARNESS_MAIN
