// SPDX-License-Identifier: GPL-2.0
/*
 * Whatever the partition table, and however slowly it is read: each event of a
 * partition carries the number that its disk has, each partition comes and goes
 * once a scan, a scan assigns no numbers, and a detach that is put off does not
 * wait for it.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq.h"
#include "diskseq_null_blk.h"
#include "diskseq_partition.h"
#include "diskseq_target.h"

#define NR_CHAINED	20
#define NR_SLOW		60	/* logical partitions */
#define NR_FAST		4
#define READ_MS		4	/* of the slow disk */
#define READ_NSEC	"4000000"
#define NR_ROUNDS	3

static const char *target_setup(struct __test_metadata *_metadata,
				struct target *t)
{
	const char *reason = target_init(t);

	if (reason)
		return reason;
	t->image = backing_file(TABLE_SECTORS * SECTOR, false);
	ASSERT_LE(0, t->image);
	ASSERT_EQ(0, target_create(t));
	return NULL;
}

/* All since the last look: partitions have to have the number @seq */
static void expect_events(struct __test_metadata *_metadata, struct target *t,
			  __u64 seq, unsigned int adds, unsigned int removes,
			  unsigned int changes)
{
	struct news news;

	ASSERT_EQ(0, watch_hear(&t->w, &news));
	check_partition_events(_metadata, &news.adds, adds, seq);
	check_partition_events(_metadata, &news.removes, removes, seq);
	EXPECT_EQ(0, news.partition_changes);
	EXPECT_EQ(changes, news.media);
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
	EXPECT_EQ(0, target_destroy(&self->t));
}

TEST_F_TIMEOUT(table, partitions_come_and_go_under_the_number_of_the_disk, 120)
{
	const unsigned int nr = variant->partitions;
	struct target *t = &self->t;
	__u64 before, seq, after;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &before));
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &seq));
	EXPECT_GT(seq, before);
	expect_events(_metadata, t, seq, nr, 0, 1);
	EXPECT_EQ(0, uevent_unaccounted(t->w.nl, &t->w.log, before, seq));
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
	EXPECT_EQ(0, uevent_unaccounted(t->w.nl, &t->w.log, seq, after));
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
	EXPECT_EQ(0, target_destroy(&self->t));
}

static int by_ioctl(int fd, int op, int partno, int first, int nr)
{
	return partition_ioctl(fd, op, partno, first * SECTOR, nr * SECTOR);
}

TEST_F(by_hand, partitions_come_and_go_under_the_number_of_the_disk)
{
	struct target *t = &self->t;
	int fd, open_one;
	__u64 seq, after;

	SKIP_IF(return, self->reason);

	fd = t->lo.fd;
	ASSERT_EQ(0, loop_configure(fd, t->image, LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, diskseq_ioctl(fd, &seq));
	expect_events(_metadata, t, seq, 0, 0, 1);

	ASSERT_EQ(0, by_ioctl(fd, BLKPG_ADD_PARTITION, 1, 64, 64));
	ASSERT_EQ(0, by_ioctl(fd, BLKPG_ADD_PARTITION, 7, 128, 64));
	expect_events(_metadata, t, seq, 2, 0, 0);
	EXPECT_EQ(2, count_partitions(t->lo.name, seq));

	/* a new size is not reported */
	ASSERT_EQ(0, by_ioctl(fd, BLKPG_RESIZE_PARTITION, 7, 128, 128));
	expect_events(_metadata, t, seq, 0, 0, 0);
	EXPECT_EQ(2, count_partitions(t->lo.name, seq));

	/* what fails does nothing */
	EXPECT_EQ(-EBUSY, by_ioctl(fd, BLKPG_ADD_PARTITION, 2, 100, 64));
	EXPECT_EQ(-EBUSY, by_ioctl(fd, BLKPG_RESIZE_PARTITION, 1, 64, 128));
	EXPECT_EQ(-ENXIO, by_ioctl(fd, BLKPG_DEL_PARTITION, 3, 0, 0));
	open_one = open_partition(t->lo.name, 1, O_RDONLY);
	ASSERT_LE(0, open_one);
	EXPECT_EQ(-EBUSY, by_ioctl(fd, BLKPG_DEL_PARTITION, 1, 0, 0));
	EXPECT_EQ(-1, ioctl(fd, BLKRRPART));
	EXPECT_EQ(EBUSY, errno);
	close(open_one);
	expect_events(_metadata, t, seq, 0, 0, 0);

	ASSERT_EQ(0, by_ioctl(fd, BLKPG_DEL_PARTITION, 1, 0, 0));
	expect_events(_metadata, t, seq, 0, 1, 0);
	/* the table has none */
	ASSERT_EQ(0, ioctl(fd, BLKRRPART));
	expect_events(_metadata, t, seq, 0, 1, 0);
	ASSERT_EQ(0, diskseq_ioctl(fd, &after));
	EXPECT_EQ(seq, after);
	EXPECT_EQ(0, count_partitions(t->lo.name, seq));
}

/* A disk that takes its time for each read, with a table of many reads */
static int slow_create(void)
{
	int ret, fd = null_blk_slow("2", READ_NSEC, true);

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
	self->slow = slow_create();
	ASSERT_LE(0, self->slow);
	ASSERT_EQ(0, table_mbr(self->t.image));
}

FIXTURE_TEARDOWN(slow_scan)
{
	EXPECT_EQ(0, target_destroy(&self->t));
	if (self->slow >= 0)
		close(self->slow);
	rmdir(NULL_BLK_SLOW);
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

/* The events of partitions, and those that announce a number of the disk */
struct tally {
	unsigned int adds;
	unsigned int removes;
	unsigned int others;
	unsigned int changes;
	unsigned int strange;	/* of partitions, with another number */
};

/* @known is the number that the disk had before. */
static void tally_events(const struct uevent_log *log, const char *disk,
			 __u64 known, __u64 seq, struct tally *tally)
{
	size_t i;

	memset(tally, 0, sizeof(*tally));
	for (i = 0; i < log->nr; i++) {
		const struct uevent *ev = &log->ev[i];

		if (!uevent_is_own(ev, disk))
			continue;
		if (!ev->partition) {
			if (uevent_announces(ev, known)) {
				tally->changes++;
				known = ev->diskseq;
			}
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

/*
 * While a slow scan is under way the file is detached and another one attached: by
 * their number the events of both can be told apart.
 */
TEST_F_TIMEOUT(slow_scan, events_of_two_instances_are_distinguished, 120)
{
	struct target *t = &self->t;
	int i;

	SKIP_IF(return, self->reason);
	/* where the detach does not wait for the scan, the scan fails */
	SKIP_IF(return, loop_detach_unusable());

	for (i = 0; i < NR_ROUNDS; i++) {
		struct attach slow = { .fd = t->lo.fd, .image = self->slow };
		__u64 before, first, second, last;
		struct tally tally;
		struct uevent ev;
		size_t n;

		ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &before));
		last = before;
		watch_forget(&t->w);
		ASSERT_EQ(0, pthread_create(&slow.thread, NULL, attach_slow,
					    &slow));
		ASSERT_EQ(0, watch_wait(&t->w, uevent_is_plain_change,
					PATIENCE_MS, &ev));
		first = ev.diskseq;
		EXPECT_LT(before, first);
		ASSERT_EQ(0, loop_detach(t->lo.fd));
		ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
					    LO_FLAGS_PARTSCAN));
		ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &second));
		pthread_join(slow.thread, NULL);
		ASSERT_EQ(0, slow.ret);
		EXPECT_LE(NR_SLOW * READ_MS, slow.took);
		ASSERT_EQ(0, uevent_fence(t->w.nl, t->lo.name, &t->w.log));

		tally_events(&t->w.log, t->lo.name, before, first, &tally);
		EXPECT_EQ(1 + NR_SLOW, tally.adds);
		EXPECT_EQ(1 + NR_SLOW, tally.removes);
		EXPECT_EQ(NR_FAST, tally.strange);
		tally_events(&t->w.log, t->lo.name, before, second, &tally);
		EXPECT_EQ(NR_FAST, tally.adds);
		EXPECT_EQ(0, tally.removes);
		EXPECT_EQ(2 * (1 + NR_SLOW), tally.strange);
		EXPECT_EQ(3, tally.changes);
		for (n = 0; n < t->w.log.nr; n++) {
			if (!uevent_is_own(&t->w.log.ev[n], t->lo.name))
				continue;
			EXPECT_LE(last, t->w.log.ev[n].diskseq);
			last = t->w.log.ev[n].diskseq;
		}
		EXPECT_EQ(second, last);
		EXPECT_EQ(NR_FAST, count_partitions(t->lo.name, second));
		ASSERT_EQ(0, loop_detach(t->lo.fd));
		ASSERT_EQ(0, uevent_fence(t->w.nl, t->lo.name, &t->w.log));
	}
}

/*
 * LOOP_CLR_FD during a slow scan, through @fd. It did not wait if there are no
 * partitions yet: they come at the end of the scan.
 */
static bool is_cleared_during_scan(struct __test_metadata *_metadata,
				   struct target *t, int image, int fd)
{
	struct attach slow = { .fd = t->lo.fd, .image = image };
	bool ahead;

	EXPECT_EQ(0, pthread_create(&slow.thread, NULL, attach_slow, &slow));
	/* a read of the scan */
	EXPECT_EQ(0, disk_wait_for_inflight(t->lo.name, NULL));
	EXPECT_EQ(0, ioctl(fd, LOOP_CLR_FD, 0));
	ahead = !count_partitions(t->lo.name, 0);
	pthread_join(slow.thread, NULL);
	EXPECT_EQ(0, slow.ret);
	return ahead;
}

static const char detaches_early[] = "this kernel detaches while the disk is open";

TEST_F(slow_scan, does_not_hold_up_a_detach_that_is_put_off)
{
	struct target *t = &self->t;
	bool ahead = false;
	int i, opener;

	SKIP_IF(return, self->reason);
	SKIP_IF(return, loop_devices->detaches_late ? NULL : detaches_early);

	/* the scan can be over before a slow machine is through */
	for (i = 0; !ahead && i < NR_ROUNDS; i++) {
		opener = open_disk(t->lo.name, O_RDONLY);
		ASSERT_LE(0, opener);
		ahead = is_cleared_during_scan(_metadata, t, self->slow, opener);
		close(opener);
		ASSERT_EQ(0, loop_detach(t->lo.fd));
	}
	EXPECT_TRUE(ahead) {
		TH_LOG("LOOP_CLR_FD waits for the scan");
	}
}

TEST_F(slow_scan, does_not_hold_up_a_detach_by_the_only_opener)
{
	struct target *t = &self->t;
	bool ahead = false;
	int i;

	SKIP_IF(return, self->reason);
	SKIP_IF(return, loop_devices->detaches_late ? NULL : detaches_early);

	for (i = 0; !ahead && i < NR_ROUNDS; i++) {
		ahead = is_cleared_during_scan(_metadata, t, self->slow, t->lo.fd);
		ASSERT_EQ(0, loop_reopen(t->lo.fd, t->lo.name));
		/* the scan, or another program, was an opener */
		if (loop_is_bound(t->lo.fd))
			ASSERT_EQ(0, loop_detach(t->lo.fd));
	}
	EXPECT_TRUE(ahead) {
		TH_LOG("LOOP_CLR_FD waits for the scan");
	}
}

TEST_HARNESS_MAIN
