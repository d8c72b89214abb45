// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that get other content under the name they have: a loop device whose
 * offset is moved, a zram device that is reset, a null_blk device that is
 * switched off and on. Each time the number is a new one and announced; a disk
 * that is only resized keeps it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdalign.h>

#include "diskseq_watch.h"
#include "diskseq_opener.h"

#define HALF		0x80000		/* of a file */
#define PAGE		4096
#define ZRAM_CONTROL	"/sys/class/zram-control/"
#define NR_PARTITIONS	2
#define MAX_ROUNDS	400
#define OPENER_ROUNDS	60

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

/* No page that somebody has read keeps the offset where it is: no retry. */
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
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_SET_STATUS, &info));
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

static int open_partition(const char *disk, int partno, int flags)
{
	char dev[160];

	snprintf(dev, sizeof(dev), "%s/%sp%d", disk, disk, partno);
	return open_disk(dev, flags);
}

/* In sectors; -ENOENT if there is no such partition. */
static long partition_start(const char *disk, int partno)
{
	char path[160], buf[32];
	int ret;

	snprintf(path, sizeof(path), "/sys/block/%s/%sp%d/start", disk, disk,
		 partno);
	ret = read_text(path, buf, sizeof(buf));
	return ret ? ret : atol(buf);
}

/* Its user would go on with the data of another place. */
TEST_F(loop, offset_stays_while_a_partition_is_claimed)
{
	struct watch *t = &self->t;
	__u64 seq;
	int fd, ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	seq = watch_number(t);
	fd = open_partition(t->name, 1, O_RDONLY | O_EXCL);
	ASSERT_LE(0, fd);
	ret = set_offset(self->lo.fd, HALF, 0);
	EXPECT_TRUE(ret == -EBUSY || ret == -EAGAIN) {
		TH_LOG("returned %d", ret);
	}
	check_nothing(_metadata, t, seq, false);
	EXPECT_EQ('a', label(fd));
	close(fd);
	EXPECT_EQ(0, set_offset(self->lo.fd, HALF, 0));
}

TEST_F(loop, offset_stays_while_the_disk_is_claimed)
{
	struct watch *t = &self->t;
	struct loop_info64 info;
	__u64 seq;
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	seq = watch_number(t);
	fd = open_disk(t->name, O_RDONLY | O_EXCL);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBUSY, set_offset(self->lo.fd, HALF, 0));
	check_nothing(_metadata, t, seq, false);
	ASSERT_EQ(0, loop_status(self->lo.fd, &info));
	EXPECT_EQ(0, info.lo_offset);
	EXPECT_EQ('a', label(fd));

	/* a filesystem that is mounted may grow, and the rest be set */
	info.lo_sizelimit = HALF;
	EXPECT_EQ(0, ioctl(self->lo.fd, LOOP_SET_STATUS64, &info));
	EXPECT_EQ(0, ioctl(self->lo.fd, LOOP_SET_CAPACITY));
	info.lo_flags |= LO_FLAGS_AUTOCLEAR;
	EXPECT_EQ(0, ioctl(self->lo.fd, LOOP_SET_STATUS64, &info));
	info.lo_flags &= ~LO_FLAGS_AUTOCLEAR;
	EXPECT_EQ(0, ioctl(self->lo.fd, LOOP_SET_STATUS64, &info));
	check_nothing(_metadata, t, seq, true);
	close(fd);
	EXPECT_EQ(0, set_offset(self->lo.fd, HALF, 0));
}

/* The opener that has claimed the disk may do what it did before. */
TEST_F(loop, offset_is_moved_for_the_opener_that_has_claimed_the_disk)
{
	struct watch *t = &self->t;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	loop_close(&self->lo);
	ASSERT_EQ(0, loop_open(&self->lo, O_RDWR | O_EXCL));
	seq = watch_number(t);
	ASSERT_EQ(0, set_offset(self->lo.fd, HALF, 0));
	EXPECT_LT(seq, watch_number(t));
	EXPECT_EQ('b', label(self->lo.fd));
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
	struct watch *t = &self->t;
	char path[80];
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);
	if (sysconf(_SC_PAGESIZE) != PAGE)
		SKIP(return, "needs pages of %d bytes", PAGE);
	if (access("/proc/swaps", F_OK))
		SKIP(return, "needs CONFIG_SWAP");

	ASSERT_EQ(sizeof(header), pwrite(self->lo.fd, header, sizeof(header), 1024));
	ASSERT_EQ(10, pwrite(self->lo.fd, "SWAPSPACE2", 10, PAGE - 10));
	snprintf(path, sizeof(path), "/dev/%s", t->name);
	ASSERT_EQ(0, leftover_expect(t->name, swap_off));
	ASSERT_EQ(0, syscall(__NR_swapon, path, 0));
	seq = watch_number(t);
	EXPECT_EQ(-EBUSY, set_offset(self->lo.fd, HALF, 0));
	check_nothing(_metadata, t, seq, false);
	EXPECT_EQ(0, syscall(__NR_swapoff, path));
	leftover_gone(t->name);
}

/* A mapped page that can't be read gives SIGBUS: that is an answer, too. */
static sigjmp_buf sigbus_jump;

static void sigbus(int sig)
{
	siglongjmp(sigbus_jump, 1);
}

static int peek(const unsigned char *mem)
{
	if (sigsetjmp(sigbus_jump, 1))
		return -EIO;
	return __atomic_load_n(mem, __ATOMIC_RELAXED);
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
	struct sigaction sa = { .sa_handler = sigbus };
	struct watch *t = &self->t;
	int p1, direct, fd;
	unsigned char *map;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, sigaction(SIGBUS, &sa, NULL));
	ASSERT_EQ(0, add_second_table(self->image, 96));
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

	ASSERT_EQ(0, set_offset(self->lo.fd, HALF, 0));
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

	ASSERT_EQ(PAGE, pread(self->image, page, PAGE, 64 * 512 + 3 * PAGE));
	EXPECT_EQ('x', page[0]);
	ASSERT_EQ(PAGE, pread(self->image, page, PAGE, HALF + 64 * 512 + 3 * PAGE));
	EXPECT_EQ('b', page[0]);
	ASSERT_EQ(PAGE, pread(self->image, page, PAGE, HALF + 96 * 512 + 3 * PAGE));
	EXPECT_EQ('b', page[0]);
}

/*
 * What udev does: at each event of the disk, or of a partition, it opens that,
 * takes a shared lock, reads, and closes it a while later.
 */
struct looker {
	pthread_t thread;
	const char *disk;
	bool partitions;	/* not the disk */
	bool stop;
	unsigned int seed;
	unsigned int opened;
	int nl;
};

static void *open_at_events(void *arg)
{
	struct looker *op = arg;
	struct uevent ev;
	char page[PAGE];
	int i, fd;

	while (!__atomic_load_n(&op->stop, __ATOMIC_ACQUIRE)) {
		if (uevent_read(op->nl, &ev, 20) <= 0 ||
		    !uevent_is_own(&ev, op->disk) ||
		    ev.partition != op->partitions || uevent_is_remove(&ev))
			continue;
		fd = op->partitions ? open_partition(op->disk, 1, O_RDONLY) :
		     open_disk(op->disk, O_RDONLY);
		if (fd < 0)
			continue;
		flock(fd, LOCK_SH | LOCK_NB);
		__atomic_add_fetch(&op->opened, 1, __ATOMIC_RELEASE);
		if (pread(fd, page, sizeof(page), 0) < 0)
			page[0] = 0;
		for (i = 2 + rand_r(&op->seed) % 14; i; i--)
			nap();
		close(fd);
	}
	return NULL;
}

static int looker_start(struct looker *op, const char *disk, bool partitions)
{
	memset(op, 0, sizeof(*op));
	op->disk = disk;
	op->partitions = partitions;
	op->seed = 1;
	op->nl = uevent_open();
	if (op->nl < 0)
		return op->nl;
	return -pthread_create(&op->thread, NULL, open_at_events, op);
}

static void looker_stop(struct looker *op)
{
	__atomic_store_n(&op->stop, true, __ATOMIC_RELEASE);
	pthread_join(op->thread, NULL);
	close(op->nl);
}

static bool looker_opens(struct looker *op, unsigned int before)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (__atomic_load_n(&op->opened, __ATOMIC_ACQUIRE) == before) {
		if (now_ms() > deadline)
			return false;
		nap();
	}
	return true;
}

#define NR_MOVES	60

/* The way of programs from before LOOP_CONFIGURE: attach, then set the offset */
TEST_F_TIMEOUT(loop, offset_is_set_while_a_partition_is_looked_at, 120)
{
	unsigned int refused = 0, missing = 0;
	struct watch *t = &self->t;
	struct looker op;
	int i, ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, add_second_table(self->image, 96));
	ASSERT_EQ(0, loop_detach(self->lo.fd));
	ASSERT_EQ(0, looker_start(&op, t->name, true));
	for (i = 0; i < NR_MOVES; i++) {
		unsigned int before = __atomic_load_n(&op.opened, __ATOMIC_ACQUIRE);

		ASSERT_EQ(0, loop_configure(self->lo.fd, self->image,
					    LO_FLAGS_PARTSCAN));
		ASSERT_TRUE(looker_opens(&op, before));
		ret = set_offset(self->lo.fd, HALF, 0);
		if (ret)
			refused++;
		else if (partition_start(t->name, 1) != 96)
			missing++;
		ASSERT_TRUE(!ret || ret == -EAGAIN || ret == -EBUSY) {
			TH_LOG("%s", strerror(-ret));
		}
		ASSERT_EQ(0, loop_detach(self->lo.fd));
	}
	looker_stop(&op);
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
	struct watch *t = &self->t;
	unsigned int refused = 0;
	struct looker op;
	int i, ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, loop_detach(self->lo.fd));
	ASSERT_EQ(0, looker_start(&op, t->name, false));
	for (i = 0; i < NR_MOVES; i++) {
		unsigned int before = __atomic_load_n(&op.opened, __ATOMIC_ACQUIRE);

		ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_SET_FD, self->image));
		/* sooner or later than it is opened */
		if (i & 1)
			ASSERT_TRUE(looker_opens(&op, before));
		ret = set_offset(self->lo.fd, HALF, 0);
		refused += ret == -EAGAIN || ret == -EBUSY;
		ASSERT_TRUE(!ret || ret == -EAGAIN || ret == -EBUSY);
		EXPECT_EQ(ret ? 'a' : 'b', label(self->lo.fd));
		ASSERT_EQ(0, loop_detach(self->lo.fd));
	}
	looker_stop(&op);
	EXPECT_LT(0, op.opened);
	EXPECT_EQ(0, refused) {
		TH_LOG("%u of %d refused", refused, NR_MOVES);
	}
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

static int zram_hot_add(char name[64])
{
	char buf[32];
	int ret;

	ret = read_text(ZRAM_CONTROL "hot_add", buf, sizeof(buf));
	if (!ret)
		snprintf(name, 64, "zram%d", atoi(buf));
	return ret;
}

/* No test may ask again where a user would see it fail. */
static int zram_hot_remove(const char *name)
{
	return write_text(ZRAM_CONTROL "hot_remove", name + strlen("zram"));
}

static void zram_remove(const char *name)
{
	zram_hot_remove(name);
}

FIXTURE_SETUP(zram)
{
	struct watch *t = &self->t;
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
	ASSERT_EQ(0, zram_hot_add(t->name));
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

		ASSERT_EQ(0, zram_write(t, "reset", "1"));
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
	ASSERT_EQ(0, zram_write(t, "reset", "1"));
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

/*
 * A user's commands do not fail for the programs that the events of the command
 * before have called.
 */
TEST_F(zram, reset_does_not_fail_for_an_opener_of_the_events_before)
{
	struct watch *t = &self->t;
	unsigned int busy = 0;
	struct opener o;
	int i, j, ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, opener_start(&o, t->name));
	for (i = 0; i < OPENER_ROUNDS; i++) {
		EXPECT_EQ(0, opener_settle(&o));
		EXPECT_EQ(0, zram_write(t, "disksize", "1M"));
		for (j = 0; j < i % 3; j++)
			nap();
		while ((ret = zram_write(t, "reset", "1")) == -EBUSY) {
			busy++;
			EXPECT_EQ(0, opener_settle(&o));
		}
		EXPECT_EQ(0, ret);
	}
	EXPECT_LT(0, opener_stop(&o));
	EXPECT_EQ(0, busy);
}

TEST_F(zram, hot_remove_does_not_fail_for_an_opener_of_the_events_before)
{
	unsigned int busy = 0, opens = 0;
	struct watch other = {};
	struct opener o;
	int i, j, ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < OPENER_ROUNDS; i++) {
		ASSERT_EQ(0, zram_hot_add(other.name));
		ASSERT_EQ(0, leftover_expect(other.name, zram_remove));
		EXPECT_EQ(0, zram_write(&other, "disksize", "1M"));
		/* from here on */
		ASSERT_EQ(0, opener_start(&o, other.name));
		EXPECT_EQ(0, zram_write(&other, "reset", "1"));
		for (j = 0; j < i % 3; j++)
			nap();
		while ((ret = zram_hot_remove(other.name)) == -EBUSY) {
			busy++;
			EXPECT_EQ(0, opener_settle(&o));
		}
		EXPECT_EQ(0, ret);
		opens += opener_stop(&o);
		leftover_gone(other.name);
	}
	EXPECT_LT(0, opens);
	EXPECT_EQ(0, busy);
}

/* By sysfs, as a reset waits for a program that has it open. */
struct sizes {
	int diskseq;
	int size;
	bool stop;
	struct {
		unsigned long long seq, sectors;
	} log[4 * OPENER_ROUNDS];
	size_t nr;
};

static unsigned long long read_number(int fd)
{
	char buf[32];
	ssize_t len;

	len = pread(fd, buf, sizeof(buf) - 1, 0);
	buf[len > 0 ? len : 0] = '\0';
	return strtoull(buf, NULL, 10);
}

static void *sizes_run(void *arg)
{
	unsigned long long seq, sectors;
	struct sizes *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		seq = read_number(s->diskseq);
		sectors = read_number(s->size);
		if (read_number(s->diskseq) != seq)
			continue;
		if (s->nr < ARRAY_SIZE(s->log) &&
		    (!s->nr || seq != s->log[s->nr - 1].seq ||
		     sectors != s->log[s->nr - 1].sectors)) {
			s->log[s->nr].seq = seq;
			s->log[s->nr].sectors = sectors;
			__atomic_store_n(&s->nr, s->nr + 1, __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

TEST_F(zram, size_and_number_change_together)
{
	struct watch *t = &self->t;
	unsigned int wrong = 0;
	struct sizes *s;
	pthread_t thread;
	char path[128];
	size_t n;
	int i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	s = calloc(1, sizeof(*s));
	ASSERT_NE(NULL, s);
	snprintf(path, sizeof(path), "/sys/block/%s/diskseq", t->name);
	s->diskseq = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, s->diskseq);
	snprintf(path, sizeof(path), "/sys/block/%s/size", t->name);
	s->size = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, s->size);
	ASSERT_EQ(0, pthread_create(&thread, NULL, sizes_run, s));
	while (!__atomic_load_n(&s->nr, __ATOMIC_RELAXED))
		nap();
	for (i = 0; i < OPENER_ROUNDS; i++) {
		EXPECT_EQ(0, zram_write(t, "disksize", "1M"));
		EXPECT_EQ(0, zram_write(t, "reset", "1"));
	}
	__atomic_store_n(&s->stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	close(s->diskseq);
	close(s->size);

	/* one size under one number */
	for (n = 1; n < s->nr; n++)
		wrong += s->log[n].seq == s->log[n - 1].seq;
	EXPECT_EQ(0, wrong) {
		TH_LOG("%u of %zu", wrong, s->nr);
	}
	EXPECT_LT(1, s->nr);
	free(s);
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
