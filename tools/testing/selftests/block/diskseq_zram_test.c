// SPDX-License-Identifier: GPL-2.0
/*
 * A zram device is another medium when it gets a size and when it is reset, and
 * an opener at each event makes neither of them fail. What waits for an opener
 * holds up no other device.
 */
#define _GNU_SOURCE
#include "diskseq.h"
#include "diskseq_opener.h"
#include "diskseq_size.h"
#include "diskseq_watch.h"
#include "diskseq_zram.h"

#define OPENER_ROUNDS	60
#define NR_ATTEMPTS	3

/* What the second page begins with */
static int label(int fd)
{
	unsigned char c;

	return pread(fd, &c, 1, PAGE) == 1 ? c : -1;
}

FIXTURE(zram)
{
	const char *reason;
	struct watch t;
};

static int zram_write(struct watch *t, const char *attr, const char *val)
{
	char path[128];

	disk_path(path, t->name, attr);
	return write_text(path, val);
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
	if (!have_zram()) {
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
	watch_close(t);
}

TEST_F(zram, size_and_reset_are_media_changes)
{
	struct watch *t = &self->t;
	__u64 seq;
	int fd, i;

	SKIP_IF(return, self->reason);

	seq = watch_number(t);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, zram_write(t, "disksize", "1M"));
		seq = check_change(_metadata, t, seq, 1, NO_PARTITIONS);

		fd = open_disk(t->name, O_RDWR);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, label(fd));
		EXPECT_EQ(1, pwrite(fd, "x", 1, PAGE));
		EXPECT_EQ('x', label(fd));
		close(fd);
		check_nothing(_metadata, t, seq, false);

		ASSERT_EQ(0, zram_write(t, "reset", "1"));
		seq = check_change(_metadata, t, seq, 1, NO_PARTITIONS);
	}
}

TEST_F(zram, what_is_refused_changes_nothing)
{
	struct watch *t = &self->t;
	__u64 seq;
	int fd;

	SKIP_IF(return, self->reason);

	seq = watch_number(t);
	EXPECT_EQ(-EINVAL, zram_write(t, "disksize", "0"));
	ASSERT_EQ(0, zram_write(t, "reset", "1"));
	check_nothing(_metadata, t, seq, false);

	ASSERT_EQ(0, zram_write(t, "disksize", "1M"));
	ASSERT_EQ(0, watch_settle(t));
	seq = watch_number(t);
	fd = open_disk(t->name, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBUSY, zram_write(t, "disksize", "2M"));
	EXPECT_EQ(-EBUSY, zram_write(t, "reset", "1"));
	close(fd);
	check_nothing(_metadata, t, seq, false);
}

static const char not_called[] = "no event calls a program that would be in the way";

/*
 * A command does not fail because the events of the preceding command made a
 * program open the device.
 */
TEST_F(zram, reset_does_not_fail_for_an_opener_of_the_events_before)
{
	struct watch *t = &self->t;
	unsigned int busy = 0, opens;
	struct opener o;
	int i, j, ret;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, opener_start(&o, t->name, false));
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
	opens = opener_stop(&o);
	EXPECT_EQ(0, busy);
	SKIP_IF(return, opens || busy ? NULL : not_called);
}

TEST_F(zram, hot_remove_does_not_fail_for_an_opener_of_the_events_before)
{
	unsigned int busy = 0, opens = 0;
	struct watch other = {};
	struct opener o;
	int i, j, ret;

	SKIP_IF(return, self->reason);

	for (i = 0; i < OPENER_ROUNDS; i++) {
		ASSERT_EQ(0, zram_hot_add(other.name));
		ASSERT_EQ(0, leftover_expect(other.name, zram_remove));
		EXPECT_EQ(0, zram_write(&other, "disksize", "1M"));
		/* from here on */
		ASSERT_EQ(0, opener_start(&o, other.name, false));
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
	EXPECT_EQ(0, busy);
	SKIP_IF(return, opens || busy ? NULL : not_called);
}

struct removal {
	pthread_t thread;
	pid_t tid;
	const char *name;
	int ret;
	bool started;
	bool done;
};

static void *remove_device(void *arg)
{
	struct removal *r = arg;

	r->tid = syscall(__NR_gettid);
	flag_set(&r->started);
	r->ret = zram_hot_remove(r->name);
	flag_set(&r->done);
	return NULL;
}

/* A kernel on which it does not wait at all passes, too. */
TEST_F(zram, hot_remove_that_waits_does_not_hold_up_another_device)
{
	struct watch *t = &self->t;
	struct watch other = {};
	bool waits, ahead = false;
	int i, fd;

	SKIP_IF(return, self->reason);

	fd = open_disk(t->name, O_RDONLY);
	ASSERT_LE(0, fd);
	/* the wait is limited: it can be over before a slow machine is through */
	for (i = 0; !ahead && i < NR_ATTEMPTS; i++) {
		struct removal r = { .name = t->name };

		ASSERT_EQ(0, pthread_create(&r.thread, NULL, remove_device, &r));
		while (!flag_is_set(&r.started))
			nap();
		waits = wait_until_it_waits(r.tid, &r.done);
		EXPECT_EQ(0, zram_hot_add(other.name));
		EXPECT_EQ(0, zram_hot_remove(other.name));
		ahead = !waits || !flag_is_set(&r.done);
		pthread_join(r.thread, NULL);
		EXPECT_EQ(-EBUSY, r.ret);
	}
	EXPECT_TRUE(ahead) {
		TH_LOG("hot_add waits for the hot_remove of another device");
	}
	close(fd);
}

/* By sysfs, as a reset waits for a program that has it open. */
TEST_F(zram, size_and_number_change_together)
{
	struct watch *t = &self->t;
	struct size_reader r;
	int i;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, size_reader_start(&r, t->name, -1));
	for (i = 0; i < OPENER_ROUNDS; i++) {
		EXPECT_EQ(0, zram_write(t, "disksize", "1M"));
		EXPECT_EQ(0, zram_write(t, "reset", "1"));
	}
	size_reader_stop(&r);
	EXPECT_EQ(0, r.wrong) {
		TH_LOG("%u of %u reads", r.wrong, r.reads);
	}
	EXPECT_LT(1, r.changes);
}

TEST_HARNESS_MAIN
