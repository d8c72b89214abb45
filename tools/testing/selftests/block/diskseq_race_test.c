// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers that are assigned and read by many at one time: none is 0, none is
 * assigned twice, no reader sees one disk's number decrease, and each number is
 * announced by exactly one event.
 *
 * DISKSEQ_CYCLES in the environment: the total number of media changes. Without
 * it they do so for a while.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq.h"
#include "diskseq_skip.h"

#define NR_LOOPS	32
#define NR_READERS	2	/* of each kind */
#define NR_OPENED	2	/* by readers that open the disk each time */
#define IMAGE_SIZE	(64 * 1024)
#define WHILE_MS	1000
#define OTHER_DISK	255	/* more than NR_LOOPS */
#define SPAN		(1024 * 1024)
#define MIN_CHANGES	5	/* that readers shall see */
#define LONG		900	/* seconds, where DISKSEQ_CYCLES asks for many */

/* 0: for a while */
static unsigned int cycles_wanted(void)
{
	const char *env = getenv("DISKSEQ_CYCLES");

	return env ? strtoul(env, NULL, 10) : 0;
}

TEST(more_than_one_cpu_online)
{
	SKIP_IF(return, loop_unusable());
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "more_than_one_cpu_online: races can hide");
}

/* An event in short */
struct record {
	__u64 seqnum;
	__u64 diskseq;
	int disk;		/* -1: none of ours */
	bool media_change;
	bool plain;
	bool whole;
};

struct race;

struct worker {
	struct race *race;
	pthread_t thread;
	struct loop lo;
	__u64 first;	/* its number before the race */
	const char *failed;
	int error;
};

enum kind { BY_IOCTL, BY_SYSFS, BY_OPENING };

struct reader {
	struct race *race;
	pthread_t thread;
	enum kind kind;
	__u64 last[NR_LOOPS];
	unsigned int zeroes;
	unsigned int decreases;
	unsigned int strange;	/* no number of this disk in this race */
	int error;
};

/* Numbers above @base have entries in @seen and @assigned. */
struct race {
	struct worker workers[NR_LOOPS];
	struct reader readers[2 * NR_READERS];
	int (*cycle)(struct worker *worker, unsigned int nr);
	int images[2];
	const enum kind *kinds;	/* of readers */
	unsigned int changes[BY_OPENING + 1];	/* that they saw */
	unsigned int wanted;	/* cycles, 0: for a while */
	unsigned int begun;
	unsigned int done;
	long long start;
	bool stop;		/* reading */

	/* all events, read in a thread of its own lest one is lost */
	pthread_t drain;
	int nl;
	char fence[40];
	bool fenced;
	int error;
	struct record *records;
	size_t nr_records;
	size_t room;

	__u64 base;		/* greatest number before the race */
	size_t span;		/* how many numbers it may take */
	unsigned char *seen;	/* by readers of this disk, from 1 */
	unsigned char *assigned;	/* to this disk, from 1 */
};

static void *drain_events(void *arg)
{
	struct race *race = arg;
	struct uevent ev;
	int ret, i;

	for (;;) {
		struct record *rec;

		ret = uevent_read(race->nl, &ev, 100);
		if (ret < 0)
			break;
		if (!ret)
			continue;
		if (flag_is_set(&race->fenced) && !strcmp(ev.uuid, race->fence))
			return NULL;
		if (ev.uuid[0])
			continue;
		if (race->nr_records == race->room) {
			race->room = race->room ? 2 * race->room : 4096;
			rec = realloc(race->records,
				      race->room * sizeof(*rec));
			if (!rec) {
				ret = -ENOMEM;
				break;
			}
			race->records = rec;
		}
		rec = &race->records[race->nr_records++];
		rec->seqnum = ev.seqnum;
		rec->diskseq = ev.diskseq;
		rec->media_change = ev.media_change;
		rec->plain = uevent_is_plain_change(&ev);
		rec->whole = !ev.partition;
		rec->disk = -1;
		for (i = 0; i < NR_LOOPS; i++)
			if (!strcmp(ev.disk, race->workers[i].lo.name))
				rec->disk = i;
	}
	race->error = ret;
	return NULL;
}

static int cmp_records(const void *a, const void *b)
{
	const struct record *ra = a, *rb = b;

	return ra->seqnum < rb->seqnum ? -1 : ra->seqnum > rb->seqnum;
}

static void saw(struct reader *reader, int disk, __u64 seq)
{
	struct race *race = reader->race;
	unsigned char was;

	if (!seq)
		reader->zeroes++;
	if (seq < reader->last[disk])
		reader->decreases++;
	if (seq == reader->last[disk])
		return;
	if (reader->last[disk])
		__atomic_fetch_add(&race->changes[reader->kind], 1,
				   __ATOMIC_RELAXED);
	reader->last[disk] = seq;
	if (seq <= race->base) {
		if (seq != race->workers[disk].first)
			reader->strange++;
	} else if (seq - race->base >= race->span) {
		reader->strange++;
	} else {
		was = __atomic_exchange_n(&race->seen[seq - race->base],
					  disk + 1, __ATOMIC_RELAXED);
		if (was && was != disk + 1)
			reader->strange++;
	}
}

static void *read_numbers(void *arg)
{
	struct reader *reader = arg;
	struct race *race = reader->race;
	/* to open takes its turn with all that attach and detach */
	int nr = reader->kind == BY_OPENING ? NR_OPENED : NR_LOOPS;
	int i, fds[NR_LOOPS];

	for (i = 0; i < nr; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/sys/block/%s/diskseq",
			 race->workers[i].lo.name);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0)
			reader->error = -errno;
	}
	while (!reader->error && !flag_is_set(&race->stop)) {
		/* the cycles need a turn, too */
		nap();
		for (i = 0; i < nr; i++) {
			struct loop *lo = &race->workers[i].lo;
			__u64 seq = 0;
			char buf[32];
			ssize_t len;
			int fd;

			switch (reader->kind) {
			case BY_IOCTL:
				reader->error = diskseq_ioctl(lo->fd, &seq);
				break;
			case BY_SYSFS:
				len = pread(fds[i], buf, sizeof(buf) - 1, 0);
				if (len <= 0) {
					reader->error = len ? -errno : -EIO;
					break;
				}
				buf[len] = '\0';
				seq = strtoull(buf, NULL, 10);
				break;
			case BY_OPENING:
				fd = open_disk(lo->name, O_RDONLY);
				if (fd < 0) {
					reader->error = fd;
					break;
				}
				reader->error = diskseq_ioctl(fd, &seq);
				close(fd);
				break;
			}
			if (reader->error)
				break;
			saw(reader, i, seq);
		}
	}
	for (i = 0; i < nr; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return NULL;
}

/* Until both kinds of readers have met with changes */
static bool is_over(const struct race *race, unsigned int nr)
{
	long long elapsed = now_ms() - race->start;

	if (nr < race->wanted)
		return false;
	if (elapsed > PATIENCE_MS)
		return true;
	return (race->wanted || elapsed > WHILE_MS) &&
	       race->changes[race->kinds[0]] >= MIN_CHANGES &&
	       race->changes[race->kinds[1]] >= MIN_CHANGES;
}

static void *run_cycles(void *arg)
{
	struct worker *worker = arg;
	struct race *race = worker->race;
	unsigned int nr;

	for (;;) {
		nr = __atomic_fetch_add(&race->begun, 1, __ATOMIC_RELAXED);
		if (is_over(race, nr))
			break;
		worker->error = race->cycle(worker, nr);
		if (worker->error)
			break;
		__atomic_fetch_add(&race->done, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Attach and detach, the disk held open all the time */
static int cycle_clr_fd(struct worker *worker, unsigned int nr)
{
	int ret;

	worker->failed = "attach";
	ret = loop_configure(worker->lo.fd, worker->race->images[0], 0);
	if (ret)
		return ret;
	worker->failed = "detach";
	return loop_detach(worker->lo.fd);
}

/* Attach; the last close detaches, which may be that of a reader */
static int cycle_autoclear(struct worker *worker, unsigned int nr)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret, fd;

	/* busy while a reader has not closed it since the last cycle */
	do {
		worker->failed = "open";
		fd = open_disk(worker->lo.name, O_RDWR);
		if (fd < 0)
			return fd;
		worker->failed = "attach";
		ret = loop_configure(fd, worker->race->images[0],
				     LO_FLAGS_AUTOCLEAR);
		close(fd);
		if (ret == -EBUSY)
			nap();
	} while (ret == -EBUSY && now_ms() < deadline);
	return ret;
}

/* Another file under a disk that stays attached */
static int cycle_change_fd(struct worker *worker, unsigned int nr)
{
	struct race *race = worker->race;
	struct loop *lo = &worker->lo;

	worker->failed = "attach";
	if (!loop_is_bound(lo->fd)) {
		int ret = loop_configure(lo->fd, race->images[0],
					 LO_FLAGS_READ_ONLY);

		if (ret)
			return ret;
	}
	worker->failed = "change";
	return ioctl(lo->fd, LOOP_CHANGE_FD, race->images[nr & 1]) ? -errno : 0;
}

FIXTURE(race)
{
	const char *reason;
	struct race *race;
};

FIXTURE_VARIANT(race)
{
	int (*cycle)(struct worker *worker, unsigned int nr);
	enum kind kinds[2];	/* of readers */
	unsigned int share;	/* of the cycles */
	unsigned int changes;	/* in each cycle */
	bool at_least;
	bool held_open;
};

FIXTURE_VARIANT_ADD(race, clr_fd)
{
	.cycle = cycle_clr_fd,
	.kinds = { BY_IOCTL, BY_SYSFS },
	.share = 2,
	.changes = 2,
	.held_open = true,
};

FIXTURE_VARIANT_ADD(race, autoclear)
{
	.cycle = cycle_autoclear,
	.kinds = { BY_OPENING, BY_SYSFS },
	.share = 4,
	.changes = 2,
};

FIXTURE_VARIANT_ADD(race, change_fd)
{
	.cycle = cycle_change_fd,
	.kinds = { BY_IOCTL, BY_SYSFS },
	.share = 4,
	.changes = 1,
	.at_least = true,
	.held_open = true,
};

FIXTURE_SETUP(race)
{
	struct race *race;
	int i;

	/* a detach that closes the device would take it away from the readers */
	self->reason = variant->cycle == cycle_clr_fd ? loop_detach_unusable() :
							loop_unusable();
	if (self->reason)
		return;

	race = calloc(1, sizeof(*race));
	ASSERT_TRUE(!!race);
	self->race = race;
	race->cycle = variant->cycle;
	race->wanted = cycles_wanted() / variant->share;
	race->span = SPAN + 64 * race->wanted;
	race->kinds = variant->kinds;
	race->seen = calloc(1, race->span);
	ASSERT_TRUE(!!race->seen);
	race->assigned = calloc(1, race->span);
	ASSERT_TRUE(!!race->assigned);
	for (i = 0; i < 2; i++) {
		race->images[i] = backing_file(IMAGE_SIZE, false);
		ASSERT_LE(0, race->images[i]);
	}
	for (i = 0; i < NR_LOOPS; i++) {
		struct worker *worker = &race->workers[i];

		worker->race = race;
		ASSERT_EQ(0, loop_create(&worker->lo));
		ASSERT_EQ(0, diskseq_ioctl(worker->lo.fd, &worker->first));
		if (worker->first > race->base)
			race->base = worker->first;
		if (!variant->held_open)
			loop_close(&worker->lo);
	}
	race->nl = uevent_open();
	ASSERT_LE(0, race->nl);
}

FIXTURE_TEARDOWN(race)
{
	struct race *race = self->race;
	int i;

	if (!race)
		return;
	for (i = 0; i < NR_LOOPS; i++)
		EXPECT_EQ(0, loop_destroy(&race->workers[i].lo));
	close(race->nl);
	close(race->images[0]);
	close(race->images[1]);
	free(race->records);
	free(race->seen);
	free(race->assigned);
	free(race);
}

/* The readers are there before the first change, and until the last. */
static void run_race(struct __test_metadata *_metadata, struct race *race)
{
	int i;

	race->start = now_ms();
	ASSERT_EQ(0, pthread_create(&race->drain, NULL, drain_events, race));
	for (i = 0; i < 2 * NR_READERS; i++) {
		struct reader *reader = &race->readers[i];

		reader->race = race;
		reader->kind = race->kinds[i & 1];
		ASSERT_EQ(0, pthread_create(&reader->thread, NULL,
					    read_numbers, reader));
	}
	for (i = 0; i < NR_LOOPS; i++)
		ASSERT_EQ(0, pthread_create(&race->workers[i].thread, NULL,
					    run_cycles, &race->workers[i]));
	for (i = 0; i < NR_LOOPS; i++)
		pthread_join(race->workers[i].thread, NULL);
	flag_set(&race->stop);
	for (i = 0; i < 2 * NR_READERS; i++)
		pthread_join(race->readers[i].thread, NULL);
}

/* What the events report, and whether the readers saw the same */
struct tally {
	__u64 whole[NR_LOOPS];	/* the last one of each disk's */
	unsigned int changes;
	unsigned int media;	/* of these, with DISK_MEDIA_CHANGE=1 */
	unsigned int zeroes;
	unsigned int decreases;	/* in SEQNUM order */
	unsigned int twice;	/* assigned: to two disks */
	unsigned int again;	/* announced for one disk */
	unsigned int beyond;	/* what this test has room for */
	unsigned int skipped;	/* numbers that no event has */
	unsigned int unannounced;	/* but seen */
	unsigned int wrong_disk;	/* seen there */
};

static void tally_events(struct race *race, struct tally *tally)
{
	__u64 last[NR_LOOPS] = {}, max = race->base;
	size_t i;

	qsort(race->records, race->nr_records, sizeof(*race->records),
	      cmp_records);
	for (i = 0; i < race->nr_records; i++) {
		const struct record *rec = &race->records[i];
		size_t nr = rec->diskseq - race->base;
		bool announces = rec->media_change;

		if (rec->disk >= 0) {
			/* see attach_may_be_plain() */
			if (rec->plain && rec->whole &&
			    rec->diskseq > last[rec->disk])
				announces = true;
			if (!rec->diskseq)
				tally->zeroes++;
			if (rec->diskseq < last[rec->disk])
				tally->decreases++;
			last[rec->disk] = rec->diskseq;
			if (rec->whole)
				tally->whole[rec->disk] = rec->diskseq;
		}
		if (rec->diskseq <= race->base)
			continue;
		if (nr >= race->span) {
			tally->beyond++;
			continue;
		}
		if (rec->disk < 0) {
			/* another disk's number, however announced */
			race->assigned[nr] = OTHER_DISK;
			continue;
		}
		if (!announces)
			continue;
		if (race->assigned[nr] == rec->disk + 1)
			tally->again++;
		else if (race->assigned[nr])
			tally->twice++;
		race->assigned[nr] = rec->disk + 1;
		tally->changes++;
		tally->media += rec->media_change;
		if (rec->diskseq > max)
			max = rec->diskseq;
	}
	for (i = 1; i < race->span; i++) {
		if (!race->assigned[i] && race->base + i <= max)
			tally->skipped++;
		if (!race->seen[i])
			continue;
		if (!race->assigned[i])
			tally->unannounced++;
		else if (race->assigned[i] != race->seen[i])
			tally->wrong_disk++;
	}
}

/* Where udev runs, the last close may be its own. */
static int wait_for_detached(struct loop *lo)
{
	long long deadline = now_ms() + PATIENCE_MS;
	bool bound;
	int ret;

	do {
		ret = loop_open(lo, O_RDONLY);
		if (ret)
			return ret;
		bound = loop_is_bound(lo->fd);
		loop_close(lo);
	} while (bound && now_ms() < deadline);
	return bound ? -ETIMEDOUT : 0;
}

TEST_F_TIMEOUT(race, numbers_are_unique_announced_once_and_never_decrease, LONG)
{
	struct race *race = self->race;
	struct tally tally = {};
	unsigned int disagreeing = 0;
	int i;

	SKIP_IF(return, self->reason);

	run_race(_metadata, race);

	for (i = 0; i < NR_LOOPS; i++) {
		struct worker *worker = &race->workers[i];

		ASSERT_EQ(0, worker->error) {
			TH_LOG("%s of %s: %s", worker->failed, worker->lo.name,
			       strerror(-worker->error));
		}
		if (!variant->held_open)
			ASSERT_EQ(0, wait_for_detached(&worker->lo));
	}

	uevent_name(race->fence);
	flag_set(&race->fenced);
	ASSERT_EQ(0, uevent_trigger(race->workers[0].lo.name, race->fence));
	pthread_join(race->drain, NULL);
	ASSERT_EQ(0, race->error) {
		TH_LOG("events: %s", strerror(-race->error));
	}
	tally_events(race, &tally);
	TH_LOG("%u cycles, %u numbers, seen by readers: %u and %u",
	       race->done, tally.changes, race->changes[race->kinds[0]],
	       race->changes[race->kinds[1]]);

	EXPECT_LT(0, race->done);
	EXPECT_LE(variant->changes * race->done, tally.changes);
	if (!variant->at_least)
		EXPECT_EQ(variant->changes * race->done, tally.changes);
	/* a detach or LOOP_CHANGE_FD in each cycle */
	EXPECT_LE(attach_may_be_plain() ? race->done : tally.changes,
		  tally.media);
	EXPECT_EQ(0, tally.zeroes);
	EXPECT_EQ(0, tally.decreases);
	EXPECT_EQ(0, tally.twice);
	EXPECT_EQ(0, tally.again);
	EXPECT_EQ(0, tally.beyond);
	EXPECT_EQ(0, tally.skipped);
	EXPECT_EQ(0, tally.unannounced);
	EXPECT_EQ(0, tally.wrong_disk);

	for (i = 0; i < 2 * NR_READERS; i++) {
		struct reader *reader = &race->readers[i];

		EXPECT_EQ(0, reader->error);
		EXPECT_EQ(0, reader->zeroes);
		EXPECT_EQ(0, reader->decreases);
		EXPECT_EQ(0, reader->strange);
	}
	EXPECT_LE(MIN_CHANGES, race->changes[race->kinds[0]]);
	EXPECT_LE(MIN_CHANGES, race->changes[race->kinds[1]]);

	/* in the end all agree */
	for (i = 0; i < NR_LOOPS; i++) {
		struct loop *lo = &race->workers[i].lo;
		__u64 by_sysfs, by_ioctl;

		if (lo->fd < 0)
			ASSERT_EQ(0, loop_open(lo, O_RDONLY));
		EXPECT_EQ(0, diskseq_sysfs(lo->name, &by_sysfs));
		EXPECT_EQ(0, diskseq_ioctl(lo->fd, &by_ioctl));
		if (by_sysfs != by_ioctl ||
		    (tally.whole[i] && by_sysfs != tally.whole[i]))
			disagreeing++;
	}
	EXPECT_EQ(0, disagreeing);
}

TEST_HARNESS_MAIN
