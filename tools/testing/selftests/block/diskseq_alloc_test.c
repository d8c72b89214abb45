// SPDX-License-Identifier: GPL-2.0
/*
 * Every disk gets a sequence number when it is allocated, whatever its driver:
 * never 0, greater than all that were assigned before, even if the disk has the
 * name of an earlier one.
 */
#define _GNU_SOURCE
#include "diskseq.h"
#include "diskseq_null_blk.h"
#include "diskseq_scsi_debug.h"
#include "diskseq_skip.h"
#include "diskseq_zram.h"

#define NR_DISKS	4	/* at most at one time */

/* How one driver makes a disk that was not there before */
struct driver {
	const char *(*unusable)(void);	/* why, or NULL */
	/* both wait until it has happened */
	int (*create)(int nl, struct uevent_log *log, char name[64]);
	int (*destroy)(const char *name);
};

static const char *no_loop(void)
{
	if (access("/dev/loop-control", F_OK))
		load_module("loop", NULL);
	return access("/dev/loop-control", F_OK) ?
	       "needs the loop driver" : NULL;
}

static int create_loop_disk(int nl, struct uevent_log *log, char name[64])
{
	int nr = loop_add();

	if (nr < 0)
		return nr;
	snprintf(name, 64, "loop%d", nr);
	return 0;
}

static int destroy_loop_disk(const char *name)
{
	return loop_remove(atoi(name + strlen("loop")));
}

static const struct driver loop_driver = {
	.unusable = no_loop,
	.create = create_loop_disk,
	.destroy = destroy_loop_disk,
};

static const char *no_null_blk(void)
{
	return have_null_blk() ? NULL : "needs null_blk and configfs";
}

static void null_blk_item(int nr, char item[static 80])
{
	snprintf(item, 80, NULL_BLK_ITEM "item%d", nr);
}

static int create_null_blk(int nl, struct uevent_log *log, char name[64])
{
	char item[80];
	int ret, i;

	for (i = 0; i < NR_DISKS; i++) {
		null_blk_item(i, item);
		if (!mkdir(item, 0755))
			break;
		if (errno != EEXIST)
			return -errno;
	}
	null_blk_set(item, "size", "1");
	ret = null_blk_set(item, "power", "1");
	if (!ret)
		ret = null_blk_name(item, name);
	if (ret)
		rmdir(item);
	return ret;
}

static int destroy_null_blk(const char *name)
{
	char item[80], other[64];
	int i;

	for (i = 0; i < NR_DISKS; i++) {
		null_blk_item(i, item);
		if (!access(item, F_OK) && !null_blk_name(item, other) &&
		    !strcmp(other, name))
			break;
	}
	null_blk_set(item, "power", "0");
	return rmdir(item) ? -errno : 0;
}

static const struct driver null_blk_driver = {
	.unusable = no_null_blk,
	.create = create_null_blk,
	.destroy = destroy_null_blk,
};

static const char *no_zram(void)
{
	return have_zram() ? NULL : "needs zram";
}

static int create_zram(int nl, struct uevent_log *log, char name[64])
{
	return zram_hot_add(name);
}

static const struct driver zram_driver = {
	.unusable = no_zram,
	.create = create_zram,
	.destroy = zram_hot_remove,
};

static const char *no_scsi_debug(void)
{
	return have_scsi_debug() ? NULL : "needs scsi_debug";
}

static int create_scsi_debug(int nl, struct uevent_log *log, char name[64])
{
	return scsi_debug_add(nl, log, name);
}

static int destroy_scsi_debug(const char *name)
{
	return scsi_debug_remove();
}

static const struct driver scsi_debug_driver = {
	.unusable = no_scsi_debug,
	.create = create_scsi_debug,
	.destroy = destroy_scsi_debug,
};

struct disks {
	const struct driver *driver;
	struct uevent_log log;
	char names[NR_DISKS][64];
	int nr;			/* that exist */
	int nl;
};

FIXTURE(new_disk)
{
	const char *reason;
	struct disks disks;
};

FIXTURE_VARIANT(new_disk)
{
	const struct driver *driver;
};

FIXTURE_VARIANT_ADD(new_disk, loop)
{
	.driver = &loop_driver,
};

FIXTURE_VARIANT_ADD(new_disk, null_blk)
{
	.driver = &null_blk_driver,
};

FIXTURE_VARIANT_ADD(new_disk, zram)
{
	.driver = &zram_driver,
};

FIXTURE_VARIANT_ADD(new_disk, scsi_debug)
{
	.driver = &scsi_debug_driver,
};

/* The greatest number of all disks, and how many disks there are. */
static int greatest(__u64 *max)
{
	char (*disks)[64];
	__u64 seq;
	int i, nr;

	nr = list_disks(&disks);
	for (i = 0; i < nr; i++)
		if (!diskseq_sysfs(disks[i], &seq) && seq > *max)
			*max = seq;
	if (nr > 0)
		free(disks);
	return nr;
}

FIXTURE_SETUP(new_disk)
{
	struct disks *d = &self->disks;
	char *name = d->names[0];
	__u64 seq;
	int ret, fd;
	bool known;

	d->driver = variant->driver;
	d->nl = -1;
	if (geteuid()) {
		self->reason = "needs root";
		return;
	}
	self->reason = d->driver->unusable();
	if (self->reason)
		return;
	d->nl = uevent_open();
	ASSERT_LE(0, d->nl);

	/* the first one shows whether the kernel has the feature */
	ASSERT_EQ(0, d->driver->create(d->nl, &d->log, name));
	fd = open_disk(name, O_RDONLY | O_NONBLOCK);
	known = diskseq_sysfs(name, &seq) != -ENOENT ||
		(fd >= 0 && !diskseq_ioctl(fd, &seq));
	if (fd >= 0)
		close(fd);
	ret = d->driver->destroy(name);
	if (!known)
		self->reason = "kernel has no disk sequence numbers";
	ASSERT_EQ(0, ret);
}

/* Not with assertions: these would leave the disks behind. */
static int new_disk(struct disks *d, __u64 *seq)
{
	int ret;

	ret = d->driver->create(d->nl, &d->log, d->names[d->nr]);
	if (ret)
		return ret;
	return diskseq_sysfs(d->names[d->nr++], seq);
}

/* scsi_debug removes the last one first */
static int last_gone(struct disks *d)
{
	return d->driver->destroy(d->names[--d->nr]);
}

FIXTURE_TEARDOWN(new_disk)
{
	struct disks *d = &self->disks;

	while (d->nr)
		EXPECT_EQ(0, last_gone(d));
	if (d->nl >= 0)
		close(d->nl);
	free(d->log.ev);
}

TEST_F(new_disk, number_is_above_all_earlier_ones)
{
	struct disks *d = &self->disks;
	__u64 max = 0, seq = 0;
	int i, ret;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_DISKS; i++) {
		EXPECT_LE(0, greatest(&max));
		ret = new_disk(d, &seq);
		EXPECT_EQ(0, ret);
		if (ret)
			return;
		EXPECT_GT(seq, max);
		EXPECT_NE(0, seq);
		/* also above those of disks that are gone */
		max = seq;
		if (i & 1)
			EXPECT_EQ(0, last_gone(d));
	}
}

TEST_F(new_disk, number_is_new_where_the_name_is_old)
{
	struct disks *d = &self->disks;
	__u64 first = 0, second = 0;
	bool same_name = false;
	char name[64];
	int i, ret;

	SKIP_IF(return, self->reason);

	/* the name of a disk that is gone may still be in use */
	for (i = 0; i < 10 && !same_name; i++) {
		ret = new_disk(d, &first);
		EXPECT_EQ(0, ret);
		if (ret)
			return;
		snprintf(name, sizeof(name), "%s", d->names[0]);
		EXPECT_EQ(0, last_gone(d));

		ret = new_disk(d, &second);
		EXPECT_EQ(0, ret);
		if (ret)
			return;
		same_name = !strcmp(name, d->names[0]);
		EXPECT_EQ(0, last_gone(d));
		EXPECT_GT(second, first);
	}
	EXPECT_TRUE(same_name);
}

TEST_F(new_disk, number_is_its_own)
{
	struct disks *d = &self->disks;
	__u64 seqs[256], seq = 0;
	int i, j, nr, nr_seqs = 0;
	char (*disks)[64];

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_DISKS; i++) {
		int ret = new_disk(d, &seq);

		EXPECT_EQ(0, ret);
		if (ret)
			return;
	}
	nr = list_disks(&disks);
	for (i = 0; i < nr; i++) {
		/* a number that changes meanwhile is still no other disk's */
		if (nr_seqs == ARRAY_SIZE(seqs) || diskseq_sysfs(disks[i], &seq))
			continue;
		EXPECT_NE(0, seq);
		for (j = 0; j < nr_seqs; j++)
			EXPECT_NE(seqs[j], seq);
		seqs[nr_seqs++] = seq;
	}
	if (nr > 0)
		free(disks);
	EXPECT_LE(NR_DISKS, nr_seqs);
}

TEST_F(new_disk, add_and_remove_events_carry_the_number)
{
	struct disks *d = &self->disks;
	long long deadline = now_ms() + PATIENCE_MS;
	unsigned int adds = 0, removes = 0;
	__u64 seq = 0, max = 0;
	struct uevent ev;
	char *name;
	size_t i;
	int ret;

	SKIP_IF(return, self->reason);

	EXPECT_LE(0, greatest(&max));
	/* nothing of the set-up's disk, which may have had the same name */
	while (uevent_read(d->nl, &ev, 0) > 0)
		;
	d->log.nr = 0;
	ret = new_disk(d, &seq);
	EXPECT_EQ(0, ret);
	if (ret)
		return;
	name = d->names[0];
	EXPECT_EQ(0, uevent_fence(d->nl, name, &d->log));
	for (i = 0; i < d->log.nr; i++) {
		const struct uevent *add = &d->log.ev[i];

		if (!uevent_is_own(add, name) || add->partition)
			continue;
		EXPECT_GT(add->diskseq, max);
		if (!uevent_is_add(add))
			continue;
		EXPECT_EQ(seq, add->diskseq);
		adds++;
	}
	EXPECT_EQ(1, adds);

	EXPECT_EQ(0, last_gone(d));
	while (!removes) {
		ret = uevent_read(d->nl, &ev, deadline - now_ms());
		EXPECT_EQ(1, ret);
		if (ret != 1)
			return;
		if (!uevent_is_own(&ev, name) || ev.partition)
			continue;
		/* a check of a drive that is being removed finds no medium */
		if (uevent_is_media_change(&ev)) {
			EXPECT_LT(seq, ev.diskseq);
			seq = ev.diskseq;
		}
		if (!uevent_is_remove(&ev))
			continue;
		EXPECT_EQ(seq, ev.diskseq);
		removes++;
	}
}

/* It may keep its memory and its name, but it is a new disk. */
TEST(null_blk_switched_on_again_has_a_new_number)
{
	__u64 seq[2] = { 0, 0 };
	char item[64], name[64];
	int i, fd;

	if (geteuid() || !have_null_blk())
		SKIP(return, "needs root, null_blk and configfs");

	snprintf(item, sizeof(item), NULL_BLK_ITEM "%d", getpid());
	ASSERT_EQ(0, mkdir(item, 0700));
	EXPECT_EQ(0, null_blk_set(item, "size", "1"));
	EXPECT_EQ(0, null_blk_set(item, "memory_backed", "1"));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, null_blk_set(item, "power", "1"));
		EXPECT_EQ(0, null_blk_name(item, name));
		fd = open_disk(name, O_RDWR);
		EXPECT_LE(0, fd);
		if (fd >= 0 && !has_diskseq(name, fd)) {
			close(fd);
			rmdir(item);
			SKIP(return, "kernel has no disk sequence numbers");
		}
		EXPECT_EQ(0, diskseq_ioctl(fd, &seq[i]));
		close(fd);
		EXPECT_EQ(0, null_blk_set(item, "power", "0"));
	}
	EXPECT_EQ(0, rmdir(item));
	EXPECT_LT(seq[0], seq[1]);
}

TEST_HARNESS_MAIN
