/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel reports of a disk from one look at it to the next.
 */
#ifndef __DISKSEQ_WATCH_H
#define __DISKSEQ_WATCH_H

#include "diskseq_number.h"
#include "diskseq_skip.h"
#include "diskseq_uevent.h"

/* A disk, and what was reported so far */
struct watch {
	struct uevent_log log;
	size_t mark;		/* first event of the log not looked at yet */
	__u64 last_seen;	/* number of the last event looked at */
	__u64 known;		/* number that was announced last */
	char name[64];
	const char *fence;	/* a disk that stays, if this one may not */
	int held;		/* a descriptor to ask, if an open may fail */
	int nl;
};

/* Events of partitions, and the numbers that they have */
struct partition_news {
	unsigned int nr;
	__u64 lowest;
	__u64 highest;
};

/* What happened between two looks */
struct news {
	unsigned int media;	/* events that announce a number */
	unsigned int bare;	/* of these, without DISK_MEDIA_CHANGE=1 */
	unsigned int plain;	/* plain change events from the last of these on */
	unsigned int requests;	/* to eject the medium */
	unsigned int decreases;	/* of the number, in SEQNUM order */
	unsigned int stale;	/* DISK_MEDIA_CHANGE=1 without a new number */
	unsigned int early;	/* events with a number not yet announced */
	struct partition_news adds;
	struct partition_news removes;
	unsigned int partition_changes;
	__u64 announced;	/* the last number that was announced */
	__u64 last;		/* number of the disk's last event */
};

/* Of a disk that may get its name later */
static inline int watch_open(struct watch *w, const char *name)
{
	memset(w, 0, sizeof(*w));
	if (name)
		snprintf(w->name, sizeof(w->name), "%s", name);
	w->nl = uevent_open();
	return w->nl < 0 ? w->nl : 0;
}

static inline void watch_close(struct watch *w)
{
	if (w->nl >= 0)
		close(w->nl);
	w->nl = -1;
	free(w->log.ev);
	memset(&w->log, 0, sizeof(w->log));
}

/* The number that it has, or 0 */
static inline __u64 watch_number(const struct watch *w)
{
	__u64 seq = 0;

	return diskseq_sysfs(w->name, &seq) ? 0 : seq;
}

static inline int watch_fence(struct watch *w)
{
	return uevent_fence(w->nl, w->fence ? w->fence : w->name, &w->log);
}

static inline void partition_news_add(struct partition_news *news, __u64 seq)
{
	if (!news->nr++ || seq < news->lowest)
		news->lowest = seq;
	if (seq > news->highest)
		news->highest = seq;
}

static inline void news_add(struct news *news, struct watch *w,
			    const struct uevent *ev)
{
	if (ev->diskseq < w->last_seen)
		news->decreases++;
	w->last_seen = ev->diskseq;
	if (ev->partition) {
		if (uevent_is_add(ev))
			partition_news_add(&news->adds, ev->diskseq);
		else if (uevent_is_remove(ev))
			partition_news_add(&news->removes, ev->diskseq);
		else
			news->partition_changes++;
		return;
	}
	news->last = ev->diskseq;
	news->requests += ev->eject_request;
	if (uevent_announces(ev, w->known)) {
		news->media++;
		news->bare += !ev->media_change;
		if (ev->diskseq <= w->known)
			news->stale++;
		news->announced = ev->diskseq;
		news->plain = !ev->media_change;
		w->known = ev->diskseq;
		return;
	}
	/* DISK_RO=1 may be sent between the assignment and the announcement */
	if (ev->diskseq > w->known && !ev->ro_changed)
		news->early++;
	if (uevent_is_plain_change(ev))
		news->plain++;
}

/* What is reported since the last call, up to now */
static inline int watch_hear(struct watch *w, struct news *news)
{
	int ret;

	memset(news, 0, sizeof(*news));
	ret = watch_fence(w);
	if (ret)
		return ret;
	for (; w->mark < w->log.nr; w->mark++)
		if (uevent_is_own(&w->log.ev[w->mark], w->name))
			news_add(news, w, &w->log.ev[w->mark]);
	return 0;
}

/* Media changes since the last call; -EINVAL if a number has decreased. */
static inline int watch_changes(struct watch *w, __u64 *last)
{
	struct news news;
	int ret = watch_hear(w, &news);

	*last = news.announced;
	if (ret)
		return ret;
	return news.decreases ? -EINVAL : (int)news.media;
}

/* What has happened so far does not count. */
static inline int watch_settle(struct watch *w)
{
	struct news news;
	int ret = watch_hear(w, &news);

	if (!ret && w->known < w->last_seen)
		w->known = w->last_seen;
	return ret;
}

/* For a test of many rounds, whose log would become long */
static inline void watch_forget(struct watch *w)
{
	w->log.nr = 0;
	w->mark = 0;
}

/* The next event of the disk itself that @is holds for; it counts as new. */
static inline int watch_wait(struct watch *w,
			     bool (*is)(const struct uevent *ev),
			     int timeout_ms, struct uevent *ev)
{
	long long deadline = now_ms() + timeout_ms;
	int ret;

	for (;;) {
		ret = uevent_read(w->nl, ev, deadline - now_ms());
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		ret = uevent_append(&w->log, ev);
		if (ret)
			return ret;
		if (uevent_is_own(ev, w->name) && !ev->partition && is(ev))
			return 0;
	}
}

/*
 * Wait for an event with DISK_MEDIA_CHANGE=1; its number goes to @seq, if wanted.
 * Not for the attach of a loop device, which may send a plain change event only.
 */
static inline int wait_for_change(struct watch *w, __u64 *seq)
{
	struct uevent ev;
	int ret = watch_wait(w, uevent_is_media_change, PATIENCE_MS, &ev);

	if (seq)
		*seq = ret ? 0 : ev.diskseq;
	return ret;
}

/* @nr events of partitions, all with the number @seq */
static inline void check_partition_events(struct __test_metadata *_metadata,
					  const struct partition_news *news,
					  unsigned int nr, __u64 seq)
{
	EXPECT_EQ(nr, news->nr);
	if (!news->nr)
		return;
	EXPECT_EQ(seq, news->lowest);
	EXPECT_EQ(seq, news->highest);
}

enum partitions {
	ANY_PARTITIONS,		/* the test looks at them itself */
	NO_PARTITIONS,		/* no event of one */
	PARTITIONS_APPEAR,	/* with the new number */
	PARTITIONS_VANISH,	/* with the old number */
	PARTITIONS_CHANGE,	/* both; numbers of removes are not checked */
};

#define NR_PARTITIONS	2	/* that backing_file() makes */
#define ANY_CHANGES	0	/* one at least */

static inline void check_partition_news(struct __test_metadata *_metadata,
					const struct news *news, __u64 old,
					__u64 seq, enum partitions partitions)
{
	if (partitions == NO_PARTITIONS) {
		EXPECT_EQ(0, news->adds.nr);
		EXPECT_EQ(0, news->removes.nr);
		return;
	}
	if (news->adds.nr) {
		EXPECT_EQ(seq, news->adds.lowest);
		EXPECT_EQ(seq, news->adds.highest);
	}
	if (news->removes.nr && partitions == PARTITIONS_VANISH) {
		EXPECT_EQ(old, news->removes.lowest);
		EXPECT_EQ(old, news->removes.highest);
	}
	/* udev may hold one open, so that none is dropped */
	if (udev_is_running())
		return;
	if (partitions == PARTITIONS_APPEAR || partitions == PARTITIONS_CHANGE)
		EXPECT_LE(NR_PARTITIONS, news->adds.nr);
	if (partitions == PARTITIONS_VANISH || partitions == PARTITIONS_CHANGE)
		EXPECT_LE(NR_PARTITIONS, news->removes.nr);
	if (partitions == PARTITIONS_VANISH)
		EXPECT_EQ(0, news->adds.nr);
}

static inline __u64 check_numbers(struct __test_metadata *_metadata,
				  struct watch *w, __u64 old,
				  unsigned int changes,
				  enum partitions partitions, bool attach)
{
	__u64 by_sysfs, by_ioctl = 0;
	struct news news = {};
	int fd;

	/* before the fence takes time, in which a late assignment could come */
	by_sysfs = watch_number(w);
	EXPECT_LT(old, by_sysfs);
	if (w->known < old)
		w->known = old;
	if (w->last_seen < old)
		w->last_seen = old;
	EXPECT_EQ(0, watch_hear(w, &news));
	EXPECT_EQ(0, news.decreases);
	EXPECT_EQ(0, news.stale) {
		TH_LOG("a media change is announced without a new number");
	}
	EXPECT_EQ(0, news.early) {
		TH_LOG("an event has a number that is not announced yet");
	}
	EXPECT_LT(0, news.media) {
		TH_LOG("no event with the new number");
	}
	if (!attach || !attach_may_be_plain())
		EXPECT_EQ(0, news.bare) {
			TH_LOG("no event with DISK_MEDIA_CHANGE=1");
		}
	EXPECT_EQ(by_sysfs, news.announced);
	EXPECT_LT(0, news.plain) {
		TH_LOG("no plain change event with the new number");
	}
	EXPECT_EQ(by_sysfs, news.last);
	if (changes) {
		EXPECT_EQ(changes, news.media);
		EXPECT_EQ(0, uevent_unaccounted(w->nl, &w->log, old, by_sysfs));
	}
	check_partition_news(_metadata, &news, old, by_sysfs, partitions);

	fd = w->held ? w->held : open_disk(w->name, O_RDONLY);
	EXPECT_LE(0, fd);
	EXPECT_EQ(0, diskseq_ioctl(fd, &by_ioctl));
	EXPECT_EQ(by_sysfs, by_ioctl);
	if (fd != w->held)
		close(fd);
	return by_sysfs;
}

/*
 * The medium has changed since the last look, when the disk had the number @old:
 * @changes new numbers (ANY_CHANGES: at least one) were assigned and announced with
 * DISK_MEDIA_CHANGE=1, and a plain change event carries the last one. Returns it.
 */
static inline __u64 check_change(struct __test_metadata *_metadata,
				 struct watch *w, __u64 old,
				 unsigned int changes,
				 enum partitions partitions)
{
	return check_numbers(_metadata, w, old, changes, partitions, false);
}

/* A file was attached, which is one change; see attach_may_be_plain(). */
static inline __u64 check_attach(struct __test_metadata *_metadata,
				 struct watch *w, __u64 old,
				 enum partitions partitions)
{
	return check_numbers(_metadata, w, old, 1, partitions, true);
}

/*
 * The number is still @old, and there was no event since the last look. With @resize,
 * events of the disk without DISK_MEDIA_CHANGE=1 are allowed.
 */
static inline void check_nothing(struct __test_metadata *_metadata,
				 struct watch *w, __u64 old, bool resize)
{
	ASSERT_NE(0, old);
	EXPECT_EQ(old, watch_number(w));
	ASSERT_EQ(0, watch_fence(w));
	for (; w->mark < w->log.nr; w->mark++) {
		const struct uevent *ev = &w->log.ev[w->mark];

		if (!uevent_is_own(ev, w->name) ||
		    (resize && !ev->partition && !ev->media_change &&
		     ev->diskseq == old))
			continue;
		EXPECT_TRUE(false) {
			TH_LOG("%s of %s, number %llu", ev->action, ev->devname,
			       (unsigned long long)ev->diskseq);
		}
	}
}

#endif /* __DISKSEQ_WATCH_H */
