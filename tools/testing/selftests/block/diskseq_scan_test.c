// SPDX-License-Identifier: GPL-2.0
/*
 * Whatever the partition table, and however slowly it is read: each event of a
 * partition carries the number that its disk has, each partition comes and goes
 * once a scan, and a scan gives no numbers away.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <linux/blkpg.h>

#include "../kselftest_harness.h"
#include "diskseq_table.h"

#define NR_CHAINED	20
#define NR_SLOW		60	/* logical partitions */
#define NR_FAST		4
#define READ_MS		4	/* of the slow disk */
#define NR_ROUNDS	3

struct target {
	struct uevent_log log;
	struct loop lo;
	int image;
	int nl;
};

static const char *target_setup(struct __test_metadata *_metadata,
				struct target *t)
{
	const char *reason;

	memset(t, 0, sizeof(*t));
	t->nl = -1;
	t->image = -1;
	t->lo.nr = -1;
	t->lo.fd = -1;
	reason = loop_unusable();
	if (reason)
		return reason;
	t->nl = uevent_open();
	ASSERT_LE(0, t->nl);
	t->image = backing_file(TABLE_SECTORS * SECTOR, false);
	ASSERT_LE(0, t->image);
	ASSERT_EQ(0, loop_create(&t->lo));
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	return NULL;
}

static void target_teardown(struct __test_metadata *_metadata, struct target *t)
{
	if (t->lo.nr >= 0)
		EXPECT_EQ(0, loop_destroy(&t->lo));
	if (t->image >= 0)
		close(t->image);
	if (t->nl >= 0)
		close(t->nl);
	free(t->log.ev);
}

/* The events of partitions, and of the disk's media changes */
struct tally {
	unsigned int adds;
	unsigned int removes;
	unsigned int others;
	unsigned int changes;
	unsigned int strange;	/* of partitions, with another number */
};

static void tally_events(const struct uevent_log *log, const char *disk,
			 __u64 seq, struct tally *tally)
{
	size_t i;

	memset(tally, 0, sizeof(*tally));
	for (i = 0; i < log->nr; i++) {
		const struct uevent *ev = &log->ev[i];

		if (!uevent_is_own(ev, disk))
			continue;
		if (!ev->partition) {
			tally->changes += ev->media_change;
			continue;
		}
		if (ev->diskseq != seq)
			tally->strange++;
		else if (uevent_is_add(ev))
			tally->adds++;
		else if (uevent_is_remove(ev))
			tally->removes++;
		else
			tally->others++;
	}
}

/* All since the last call: partitions have to have the number @seq */
static void expect_events(struct __test_metadata *_metadata, struct target *t,
			  __u64 seq, unsigned int adds, unsigned int removes,
			  unsigned int changes)
{
	struct tally tally;

	t->log.nr = 0;
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	tally_events(&t->log, t->lo.name, seq, &tally);
	EXPECT_EQ(adds, tally.adds);
	EXPECT_EQ(removes, tally.removes);
	EXPECT_EQ(0, tally.others);
	EXPECT_EQ(0, tally.strange);
	EXPECT_EQ(changes, tally.changes);
}

/* How many there are; -EINVAL if one of them has not the number @seq. */
static int count_partitions(const char *disk, __u64 seq)
{
	struct dirent *entry;
	char path[128];
	int ret = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/block/%s", disk);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (ret >= 0 && (entry = readdir(dir))) {
		__u64 by_file, by_ioctl;
		char dev[128];
		int fd;

		if (strncmp(entry->d_name, disk, strlen(disk)))
			continue;
		ret++;
		snprintf(dev, sizeof(dev), "%.31s/%.63s", disk, entry->d_name);
		fd = open_disk(dev, O_RDONLY);
		if (fd < 0 || diskseq_ioctl(fd, &by_ioctl) ||
		    diskseq_uevent_file(dev, &by_file) ||
		    by_ioctl != seq || by_file != seq)
			ret = -EINVAL;
		if (fd >= 0)
			close(fd);
	}
	closedir(dir);
	return ret;
}

FIXTURE(table)
{
	const char *reason;
	struct target t;
};

FIXTURE_VARIANT(table)
{
	int (*write)(int fd);
	unsigned int partitions;
};

FIXTURE_VARIANT_ADD(table, mbr)
{
	.write = table_mbr,
	.partitions = 4,
};

static int table_logical(int fd)
{
	return table_chain(fd, NR_CHAINED);
}

FIXTURE_VARIANT_ADD(table, mbr_with_logical_ones)
{
	.write = table_logical,
	.partitions = 1 + NR_CHAINED,
};

FIXTURE_VARIANT_ADD(table, gpt)
{
	.write = table_gpt,
	.partitions = GPT_ENTRIES,
};

FIXTURE_VARIANT_ADD(table, garbage)
{
	.write = table_garbage,
};

FIXTURE_VARIANT_ADD(table, beyond_the_end)
{
	.write = table_beyond,
	.partitions = 2,
};

FIXTURE_VARIANT_ADD(table, ring_of_logical_ones)
{
	.write = table_ring,
	.partitions = 1,
};

FIXTURE_VARIANT_ADD(table, truncated_gpt)
{
	.write = table_truncated_gpt,
};

FIXTURE_VARIANT_ADD(table, gpt_with_bad_checksum)
{
	.write = table_bad_gpt,
};

FIXTURE_SETUP(table)
{
	self->reason = target_setup(_metadata, &self->t);
	if (!self->reason)
		ASSERT_EQ(0, variant->write(self->t.image));
}

FIXTURE_TEARDOWN(table)
{
	target_teardown(_metadata, &self->t);
}

TEST_F_TIMEOUT(table, partitions_come_and_go_under_the_number_of_the_disk, 120)
{
	const unsigned int nr = variant->partitions;
	struct target *t = &self->t;
	__u64 before, seq, after;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &before));
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &seq));
	EXPECT_GT(seq, before);
	expect_events(_metadata, t, seq, nr, 0, 1);
	EXPECT_EQ(0, uevent_unaccounted(t->nl, &t->log, before, seq));
	EXPECT_EQ(nr, count_partitions(t->lo.name, seq));

	/* a table that is read again is no other medium */
	ASSERT_EQ(0, ioctl(t->lo.fd, BLKRRPART));
	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &after));
	EXPECT_EQ(seq, after);
	expect_events(_metadata, t, seq, nr, nr, 0);
	EXPECT_EQ(nr, count_partitions(t->lo.name, seq));

	ASSERT_EQ(0, loop_detach(t->lo.fd));
	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &after));
	EXPECT_GT(after, seq);
	expect_events(_metadata, t, seq, 0, nr, 1);
	EXPECT_EQ(0, uevent_unaccounted(t->nl, &t->log, seq, after));
	EXPECT_EQ(0, count_partitions(t->lo.name, after));
}

FIXTURE(by_hand)
{
	const char *reason;
	struct target t;
};

FIXTURE_SETUP(by_hand)
{
	self->reason = target_setup(_metadata, &self->t);
}

FIXTURE_TEARDOWN(by_hand)
{
	target_teardown(_metadata, &self->t);
}

static int partition_ioctl(int fd, int op, int partno, int first, int nr)
{
	struct blkpg_partition part = {
		.start = first * SECTOR,
		.length = nr * SECTOR,
		.pno = partno,
	};
	struct blkpg_ioctl_arg arg = {
		.op = op,
		.datalen = sizeof(part),
		.data = &part,
	};

	return ioctl(fd, BLKPG, &arg) ? -errno : 0;
}

TEST_F(by_hand, partitions_come_and_go_under_the_number_of_the_disk)
{
	struct target *t = &self->t;
	int fd, open_one;
	__u64 seq, after;
	char dev[64];

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, LO_FLAGS_PARTSCAN));
	fd = t->lo.fd;
	ASSERT_EQ(0, diskseq_ioctl(fd, &seq));
	expect_events(_metadata, t, seq, 0, 0, 1);

	ASSERT_EQ(0, partition_ioctl(fd, BLKPG_ADD_PARTITION, 1, 64, 64));
	ASSERT_EQ(0, partition_ioctl(fd, BLKPG_ADD_PARTITION, 7, 128, 64));
	expect_events(_metadata, t, seq, 2, 0, 0);
	EXPECT_EQ(2, count_partitions(t->lo.name, seq));

	/* a new size is told by nobody */
	ASSERT_EQ(0, partition_ioctl(fd, BLKPG_RESIZE_PARTITION, 7, 128, 128));
	expect_events(_metadata, t, seq, 0, 0, 0);
	EXPECT_EQ(2, count_partitions(t->lo.name, seq));

	/* what fails does nothing */
	EXPECT_EQ(-EBUSY, partition_ioctl(fd, BLKPG_ADD_PARTITION, 2, 100, 64));
	EXPECT_EQ(-EBUSY, partition_ioctl(fd, BLKPG_RESIZE_PARTITION, 1, 64, 128));
	EXPECT_EQ(-ENXIO, partition_ioctl(fd, BLKPG_DEL_PARTITION, 3, 0, 0));
	snprintf(dev, sizeof(dev), "%s/%sp1", t->lo.name, t->lo.name);
	open_one = open_disk(dev, O_RDONLY);
	ASSERT_LE(0, open_one);
	EXPECT_EQ(-EBUSY, partition_ioctl(fd, BLKPG_DEL_PARTITION, 1, 0, 0));
	EXPECT_EQ(-1, ioctl(fd, BLKRRPART));
	EXPECT_EQ(EBUSY, errno);
	close(open_one);
	expect_events(_metadata, t, seq, 0, 0, 0);

	ASSERT_EQ(0, partition_ioctl(fd, BLKPG_DEL_PARTITION, 1, 0, 0));
	expect_events(_metadata, t, seq, 0, 1, 0);
	/* the table has none */
	ASSERT_EQ(0, ioctl(fd, BLKRRPART));
	expect_events(_metadata, t, seq, 0, 1, 0);
	ASSERT_EQ(0, diskseq_ioctl(fd, &after));
	EXPECT_EQ(seq, after);
	EXPECT_EQ(0, count_partitions(t->lo.name, seq));
}

/* A disk that takes its time for each read, with a table of many reads */
#define SLOW_ITEM	NULL_BLK "/diskseq_slow"

static int slow_set(const char *attr, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), SLOW_ITEM "/%s", attr);
	return write_text(path, value);
}

static int slow_create(void)
{
	char path[128], name[64], buf[32];
	int fd, ret;

	snprintf(buf, sizeof(buf), "%d", READ_MS * 1000000);
	if (mkdir(SLOW_ITEM, 0755))
		return -errno;
	if (slow_set("size", "2") || slow_set("memory_backed", "1") ||
	    slow_set("irqmode", "2") || slow_set("completion_nsec", buf) ||
	    slow_set("power", "1"))
		return -EIO;
	snprintf(name, sizeof(name), "%s", strrchr(SLOW_ITEM, '/') + 1);
	snprintf(path, sizeof(path), "/sys/block/%s", name);
	if (access(path, F_OK)) {
		ret = read_text(SLOW_ITEM "/index", buf, sizeof(buf));
		if (ret)
			return ret;
		snprintf(name, sizeof(name), "nullb%d", atoi(buf));
	}
	fd = open_disk(name, O_RDWR);
	if (fd < 0)
		return fd;
	ret = table_chain(fd, NR_SLOW);
	if (!ret && fsync(fd))
		ret = -errno;
	if (ret)
		close(fd);
	return ret ? ret : fd;
}

FIXTURE(slow_scan)
{
	const char *reason;
	struct target t;
	int slow;
};

FIXTURE_SETUP(slow_scan)
{
	self->slow = -1;
	self->reason = target_setup(_metadata, &self->t);
	if (!self->reason && !have_null_blk())
		self->reason = "needs null_blk and configfs";
	if (self->reason)
		return;
	rmdir(SLOW_ITEM);
	self->slow = slow_create();
	ASSERT_LE(0, self->slow);
	ASSERT_EQ(0, table_mbr(self->t.image));
}

FIXTURE_TEARDOWN(slow_scan)
{
	target_teardown(_metadata, &self->t);
	if (self->slow >= 0)
		close(self->slow);
	rmdir(SLOW_ITEM);
}

struct attach {
	pthread_t thread;
	int fd;
	int image;
	int ret;
	long long took;
};

/* Each read of the table goes to the slow disk, not to its page cache. */
static void *attach_slow(void *arg)
{
	struct attach *attach = arg;
	long long start = now_ms();

	attach->ret = loop_configure(attach->fd, attach->image,
				     LO_FLAGS_PARTSCAN | LO_FLAGS_DIRECT_IO);
	attach->took = now_ms() - start;
	return NULL;
}

static int next_event(struct target *t, struct uevent *ev)
{
	int ret;

	do {
		ret = uevent_read(t->nl, ev, PATIENCE_MS);
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		ret = uevent_append(&t->log, ev);
		if (ret)
			return ret;
	} while (!uevent_is_own(ev, t->lo.name));
	return 0;
}

/*
 * While a slow scan is under way somebody takes the file away and attaches
 * another: by their number the events of both can be told from each other.
 */
TEST_F_TIMEOUT(slow_scan, events_of_two_instances_are_told_apart, 120)
{
	struct target *t = &self->t;
	int i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_ROUNDS; i++) {
		struct attach slow = { .fd = t->lo.fd, .image = self->slow };
		__u64 first, second, last = 0;
		struct tally tally;
		struct uevent ev;
		size_t n;

		t->log.nr = 0;
		ASSERT_EQ(0, pthread_create(&slow.thread, NULL, attach_slow,
					    &slow));
		do {
			ASSERT_EQ(0, next_event(t, &ev));
		} while (!ev.media_change);
		first = ev.diskseq;
		EXPECT_NE(0, first);
		ASSERT_EQ(0, loop_detach(t->lo.fd));
		ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
					    LO_FLAGS_PARTSCAN));
		ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &second));
		pthread_join(slow.thread, NULL);
		ASSERT_EQ(0, slow.ret);
		EXPECT_LE(NR_SLOW * READ_MS, slow.took);
		ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));

		tally_events(&t->log, t->lo.name, first, &tally);
		EXPECT_EQ(1 + NR_SLOW, tally.adds);
		EXPECT_EQ(1 + NR_SLOW, tally.removes);
		EXPECT_EQ(NR_FAST, tally.strange);
		tally_events(&t->log, t->lo.name, second, &tally);
		EXPECT_EQ(NR_FAST, tally.adds);
		EXPECT_EQ(0, tally.removes);
		EXPECT_EQ(2 * (1 + NR_SLOW), tally.strange);
		EXPECT_EQ(3, tally.changes);
		for (n = 0; n < t->log.nr; n++) {
			if (!uevent_is_own(&t->log.ev[n], t->lo.name))
				continue;
			EXPECT_LE(last, t->log.ev[n].diskseq);
			last = t->log.ev[n].diskseq;
		}
		EXPECT_EQ(second, last);
		EXPECT_EQ(NR_FAST, count_partitions(t->lo.name, second));
		ASSERT_EQ(0, loop_detach(t->lo.fd));
		ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	}
}

TEST_HARNESS_MAIN
