// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers that are drawn and read by many at one time: none is 0, none is given
 * twice, no reader sees one disk's number decrease, and each number that was
 * drawn was announced by exactly one event.
 *
 * DISKSEQ_CYCLES in the environment: how many times, in all, to give disks
 * another content. Without it they do so for a while.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq_disk.h"
#include "diskseq_watch.h"

#define NR_LOOPS	32
#define NR_READERS	2	/* of each kind */
#define NR_OPENED	2	/* by those who open the disk each time */
#define IMAGE_SIZE	(64 * 1024)
#define WHILE_MS	1000
#define OTHER_DISK	255	/* more than NR_LOOPS */
#define SPAN		(1024 * 1024)
#define MIN_CHANGES	5	/* that readers shall see */
#define LONG		900	/* seconds, for those who asked for many */

static bool is_set(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void set(bool *flag)
{
	__atomic_store_n(flag, true, __ATOMIC_RELEASE);
}

/* 0: for a while */
static unsigned int cycles_wanted(void)
{
	const char *env = getenv("DISKSEQ_CYCLES");

	return env ? strtoul(env, NULL, 10) : 0;
}

TEST(more_than_one_cpu_online)
{
	const char *reason = loop_unusable();

	if (reason)
		SKIP(return, "%s", reason);
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "more_than_one_cpu_online: races can hide");
}

/* An event in short */
struct record {
	__u64 seqnum;
	__u64 diskseq;
	int disk;		/* -1: none of ours */
	bool media_change;
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

/* Numbers above @base have entries in @seen and @drawn. */
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
	unsigned char *drawn;	/* for this disk, from 1 */
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
		if (is_set(&race->fenced) && !strcmp(ev.uuid, race->fence))
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
	while (!reader->error && !is_set(&race->stop)) {
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

/* Attach; who closes last detaches, which may be one who only reads */
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
	unsigned int draws;	/* in each cycle */
	bool at_least;
	bool held_open;
};

FIXTURE_VARIANT_ADD(race, clr_fd)
{
	.cycle = cycle_clr_fd,
	.kinds = { BY_IOCTL, BY_SYSFS },
	.share = 2,
	.draws = 2,
	.held_open = true,
};

FIXTURE_VARIANT_ADD(race, autoclear)
{
	.cycle = cycle_autoclear,
	.kinds = { BY_OPENING, BY_SYSFS },
	.share = 4,
	.draws = 2,
};

FIXTURE_VARIANT_ADD(race, change_fd)
{
	.cycle = cycle_change_fd,
	.kinds = { BY_IOCTL, BY_SYSFS },
	.share = 4,
	.draws = 1,
	.at_least = true,
	.held_open = true,
};

FIXTURE_SETUP(race)
{
	struct race *race;
	int i;

	self->reason = loop_unusable();
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
	race->drawn = calloc(1, race->span);
	ASSERT_TRUE(!!race->drawn);
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
	free(race->drawn);
	free(race);
}

/* All are there before anything is drawn, and read until all is drawn. */
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
	set(&race->stop);
	for (i = 0; i < 2 * NR_READERS; i++)
		pthread_join(race->readers[i].thread, NULL);
}

/* What the events say, and how it goes with what the readers saw */
struct tally {
	__u64 whole[NR_LOOPS];	/* the last one of each disk's */
	unsigned int draws;
	unsigned int zeroes;
	unsigned int decreases;	/* in SEQNUM order */
	unsigned int twice;	/* given or announced */
	unsigned int beyond;	/* what this test reckoned with */
	unsigned int undrawn;	/* numbers that no event has */
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

		if (rec->disk >= 0) {
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
			race->drawn[nr] = OTHER_DISK;
			continue;
		}
		if (!rec->media_change)
			continue;
		if (race->drawn[nr])
			tally->twice++;
		race->drawn[nr] = rec->disk + 1;
		tally->draws++;
		if (rec->diskseq > max)
			max = rec->diskseq;
	}
	for (i = 1; i < race->span; i++) {
		if (!race->drawn[i] && race->base + i <= max)
			tally->undrawn++;
		if (!race->seen[i])
			continue;
		if (!race->drawn[i])
			tally->unannounced++;
		else if (race->drawn[i] != race->seen[i])
			tally->wrong_disk++;
	}
}

/* With udev about, the last close may be its own. */
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
	set(&race->fenced);
	ASSERT_EQ(0, uevent_trigger(race->workers[0].lo.name, race->fence));
	pthread_join(race->drain, NULL);
	ASSERT_EQ(0, race->error) {
		TH_LOG("events: %s", strerror(-race->error));
	}
	tally_events(race, &tally);
	TH_LOG("%u cycles, %u numbers, seen by readers: %u and %u",
	       race->done, tally.draws, race->changes[race->kinds[0]],
	       race->changes[race->kinds[1]]);

	EXPECT_LT(0, race->done);
	EXPECT_LE(variant->draws * race->done, tally.draws);
	if (!variant->at_least)
		EXPECT_EQ(variant->draws * race->done, tally.draws);
	EXPECT_EQ(0, tally.zeroes);
	EXPECT_EQ(0, tally.decreases);
	EXPECT_EQ(0, tally.twice);
	EXPECT_EQ(0, tally.beyond);
	EXPECT_EQ(0, tally.undrawn);
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

/*
 * Changes that are found by polling: scsi_debug's disk says that what is on it
 * may be another by a unit attention, as a drive does that was given another
 * medium, and is without medium while it is offline.
 */
#define POLL_MS		"10"
#define NR_CHANGES	10
#define NR_OPENERS	4

struct drive {
	struct watch w;
	int fd;
};

FIXTURE(removable)
{
	const char *reason;
	struct drive d;
};

/* WRITE BUFFER with new microcode: the next command gets a unit attention */
static int trigger_attention(int fd)
{
	static const unsigned char cdb[10] = { 0x3b, 0x05 };

	return disk_command(fd, cdb, sizeof(cdb), NULL);
}

static int start_stop(int fd, bool start)
{
	/* at once: the command is over before the motor runs */
	unsigned char cdb[6] = { 0x1b, 0x01, [4] = start };

	return disk_command(fd, cdb, sizeof(cdb), NULL);
}

/* Every second command ends with an aborted transport, even if it is a poll. */
static int fail_commands(bool fail)
{
	int ret;

	if (fail) {
		ret = setting_change(SCSI_DEBUG "every_nth", "2");
		return ret ? ret : setting_change(SCSI_DEBUG "opts", "0x10");
	}
	ret = setting_restore(SCSI_DEBUG "opts");
	return setting_restore(SCSI_DEBUG "every_nth") ?: ret;
}

/* 1 when the kernel has told of a new medium */
static int wait_for_change(struct drive *d, int timeout_ms)
{
	long long deadline = now_ms() + timeout_ms;
	struct uevent ev;
	int ret;

	for (;;) {
		ret = uevent_read(d->w.nl, &ev, deadline - now_ms());
		if (ret <= 0)
			return ret;
		ret = uevent_append(&d->w.log, &ev);
		if (ret)
			return ret;
		if (uevent_is_own(&ev, d->w.name) && ev.media_change)
			return 1;
	}
}

/*
 * The drive tells whoever asks it first, and that may be somebody who asks for
 * something else, such as its capacity: then the kernel has not heard of it.
 */
static int wait_for_attention(struct drive *d)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	while (!(ret = wait_for_change(d, PATIENCE_MS / 4)) && now_ms() < deadline) {
		ret = trigger_attention(d->fd);
		if (ret)
			break;
	}
	return ret;
}

static int create_removable(struct drive *d)
{
	char path[128];
	int ret;

	ret = setting_change(SCSI_DEBUG "removable", "1");
	if (!ret)
		ret = scsi_debug_add(d->w.nl, &d->w.log, d->w.name);
	setting_restore(SCSI_DEBUG "removable");
	if (ret)
		return ret;
	/* the event comes before the driver is through: this waits for it */
	disk_path(path, d->w.name, "device/rescan");
	ret = write_text(path, "1");
	if (ret)
		return ret;
	disk_path(path, d->w.name, "events_poll_msecs");
	ret = write_text(path, POLL_MS);
	if (ret)
		return ret;
	d->fd = open_disk(d->w.name, O_RDONLY | O_NONBLOCK);
	if (d->fd < 0)
		return d->fd;
	flock(d->fd, LOCK_EX | LOCK_NB);
	return 0;
}

FIXTURE_SETUP(removable)
{
	struct drive *d = &self->d;
	long long deadline = now_ms() + PATIENCE_MS;
	__u64 before, after = 0;

	d->w.nl = -1;
	d->fd = -1;
	if (geteuid()) {
		self->reason = "needs root";
		return;
	}
	/* it would ask the drive first, and look at each new medium */
	if (udev_is_running()) {
		self->reason = "needs a machine without udev";
		return;
	}
	if (!have_scsi_debug()) {
		self->reason = "needs scsi_debug";
		return;
	}
	d->w.nl = uevent_open();
	ASSERT_LE(0, d->w.nl);
	ASSERT_EQ(0, create_removable(d));
	if (!has_diskseq(d->w.name, d->fd)) {
		self->reason = "kernel has no disk sequence numbers";
		return;
	}

	/* a new drive has things to say of its own */
	do {
		ASSERT_EQ(0, disk_look(d->w.name));
		before = after;
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 3));
		ASSERT_EQ(0, diskseq_sysfs(d->w.name, &after));
		ASSERT_LT(now_ms(), deadline);
	} while (before != after);
	/*
	 * A first change, since other drivers may have drawn unannounced
	 * numbers for the device: the one for SCSI generic devices allocates a
	 * disk that is never added.
	 */
	ASSERT_EQ(0, trigger_attention(d->fd));
	ASSERT_EQ(1, wait_for_attention(d));
	ASSERT_EQ(0, disk_look(d->w.name));
	ASSERT_LE(0, watch_changes(&d->w, &before));
}

FIXTURE_TEARDOWN(removable)
{
	struct drive *d = &self->d;

	if (d->fd >= 0)
		close(d->fd);
	if (d->w.name[0]) {
		EXPECT_EQ(0, fail_commands(false));
		EXPECT_EQ(0, scsi_debug_remove());
	}
	if (d->w.nl >= 0)
		close(d->w.nl);
	free(d->w.log.ev);
}

TEST_F(removable, polls_without_change_draw_nothing)
{
	struct drive *d = &self->d;
	__u64 before, after, last = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 10));
	/* nor is a stopped motor another medium, "not ready" as it says */
	ASSERT_EQ(0, start_stop(d->fd, false));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 5));
	EXPECT_EQ(0, disk_look(d->w.name));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 5));
	ASSERT_EQ(0, start_stop(d->fd, true));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 5));
	EXPECT_EQ(0, disk_look(d->w.name));
	/* nor a drive that fails now and then */
	ASSERT_EQ(0, fail_commands(true));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 10));
	ASSERT_EQ(0, fail_commands(false));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 5));
	EXPECT_EQ(0, disk_look(d->w.name));
	EXPECT_EQ(0, watch_changes(&d->w, &last));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &after));
	EXPECT_EQ(before, after);
}

TEST_F(removable, polled_change_draws_once_and_announces_it)
{
	struct drive *d = &self->d;
	__u64 before, by_ioctl, by_sysfs, last = 0;
	int i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
		ASSERT_EQ(0, trigger_attention(d->fd));
		ASSERT_EQ(1, wait_for_attention(d)) {
			TH_LOG("change %d not announced", i);
		}
		ASSERT_EQ(0, diskseq_ioctl(d->fd, &by_ioctl));
		EXPECT_GT(by_ioctl, before);
		/* the same change, found again by who opens the disk */
		ASSERT_EQ(0, disk_look(d->w.name));
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
		EXPECT_EQ(1, watch_changes(&d->w, &last));
		EXPECT_EQ(by_ioctl, last);
		EXPECT_EQ(0, uevent_unaccounted(d->w.nl, &d->w.log, before, by_ioctl));
		ASSERT_EQ(0, diskseq_sysfs(d->w.name, &by_sysfs));
		EXPECT_EQ(by_ioctl, by_sysfs);
	}
}

TEST_F(removable, medium_gone_and_back_has_a_new_number)
{
	struct drive *d = &self->d;
	__u64 before, by_ioctl, by_sysfs, last = 0;
	char path[128];
	int i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	disk_path(path, d->w.name, "device/state");
	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
		ASSERT_EQ(0, write_text(path, "offline\n"));
		ASSERT_EQ(1, wait_for_change(d, PATIENCE_MS)) {
			TH_LOG("removal %d not announced", i);
		}
		ASSERT_EQ(0, write_text(path, "running\n"));
		ASSERT_EQ(0, disk_look(d->w.name));
		ASSERT_EQ(0, diskseq_ioctl(d->fd, &by_ioctl));
		EXPECT_GT(by_ioctl, before);
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
		EXPECT_LE(1, watch_changes(&d->w, &last));
		ASSERT_EQ(0, diskseq_sysfs(d->w.name, &by_sysfs));
		EXPECT_EQ(by_sysfs, last);
		EXPECT_EQ(0, uevent_unaccounted(d->w.nl, &d->w.log, before, by_sysfs));
	}
}

/*
 * A drive that flaps: a medium comes and goes all the time, and nobody has
 * looked since it did so first.
 */
TEST_F(removable, medium_that_comes_and_goes_draws_once_until_opened)
{
	struct drive *d = &self->d;
	__u64 before, after, last = 0;
	char path[128];
	int i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	disk_path(path, d->w.name, "device/state");
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, write_text(path, "offline\n"));
		/* later times nothing tells, so give it the time of some polls */
		ASSERT_EQ(!i, wait_for_change(d, i ? 3 * atoi(POLL_MS) :
					      PATIENCE_MS));
		ASSERT_EQ(0, write_text(path, "running\n"));
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
		ASSERT_EQ(0, trigger_attention(d->fd));
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
	}
	EXPECT_EQ(1, watch_changes(&d->w, &last));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &after));
	EXPECT_EQ(last, after);
	EXPECT_EQ(0, uevent_unaccounted(d->w.nl, &d->w.log, before, after));

	/* the next one, after somebody has looked, is news again */
	ASSERT_EQ(0, disk_look(d->w.name));
	ASSERT_LE(0, watch_changes(&d->w, &last));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
	ASSERT_EQ(0, trigger_attention(d->fd));
	ASSERT_EQ(1, wait_for_attention(d));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &after));
	EXPECT_GT(after, before);
}

/* Who opens the disk looks for a new medium, as the poll does. */
struct opener {
	struct drive *drive;
	pthread_rwlock_t *pause;
	pthread_t thread;
	bool *stop;
	__u64 last;
	unsigned int opens;
	unsigned int decreases;
	unsigned int zeroes;
	int error;
};

static void *open_and_read(void *arg)
{
	struct opener *opener = arg;

	while (!opener->error && !is_set(opener->stop)) {
		__u64 seq;
		int fd;

		pthread_rwlock_rdlock(opener->pause);
		fd = open_disk(opener->drive->w.name, O_RDONLY | O_NONBLOCK);
		if (fd < 0) {
			opener->error = fd;
		} else {
			opener->error = diskseq_ioctl(fd, &seq);
			close(fd);
			if (!seq)
				opener->zeroes++;
			if (seq < opener->last)
				opener->decreases++;
			opener->last = seq;
			opener->opens++;
		}
		pthread_rwlock_unlock(opener->pause);
	}
	return NULL;
}

TEST_F(removable, change_found_by_poll_or_open_draws_once)
{
	struct drive *d = &self->d;
	struct opener openers[NR_OPENERS] = {};
	__u64 first, now, before, last = 0;
	pthread_rwlockattr_t attr;
	pthread_rwlock_t pause;
	bool stop = false;
	int i, nr, ret = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	/* the openers never rest of their own will */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&pause, &attr);

	ASSERT_EQ(0, diskseq_ioctl(d->fd, &first));
	for (i = 0; i < NR_OPENERS; i++) {
		openers[i].drive = d;
		openers[i].pause = &pause;
		openers[i].stop = &stop;
		ASSERT_EQ(0, pthread_create(&openers[i].thread, NULL,
					    open_and_read, &openers[i]));
	}
	for (nr = 0; nr < NR_CHANGES; nr++) {
		/*
		 * While they have finished with the last change: who looks at
		 * the new medium can swallow the drive's next attention.
		 */
		pthread_rwlock_wrlock(&pause);
		ret = disk_look(d->w.name);
		if (!ret)
			ret = diskseq_ioctl(d->fd, &before);
		if (!ret)
			ret = trigger_attention(d->fd);
		pthread_rwlock_unlock(&pause);
		if (ret)
			break;
		ret = wait_for_attention(d);
		if (ret != 1) {
			ret = ret ? ret : -ETIMEDOUT;
			break;
		}
		ret = diskseq_ioctl(d->fd, &now);
		if (ret)
			break;
		EXPECT_GT(now, before);
	}
	set(&stop);
	for (i = 0; i < NR_OPENERS; i++) {
		pthread_join(openers[i].thread, NULL);
		EXPECT_EQ(0, openers[i].error);
		EXPECT_LT(0, openers[i].opens);
		EXPECT_EQ(0, openers[i].zeroes);
		EXPECT_EQ(0, openers[i].decreases);
	}
	ASSERT_EQ(0, ret) {
		TH_LOG("change %d: %s", nr, strerror(-ret));
	}
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
	EXPECT_EQ(NR_CHANGES, watch_changes(&d->w, &last));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &now));
	EXPECT_EQ(last, now);
	EXPECT_EQ(0, uevent_unaccounted(d->w.nl, &d->w.log, first, now));
}

TEST_HARNESS_MAIN
