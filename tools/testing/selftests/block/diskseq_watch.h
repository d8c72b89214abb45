/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel tells of a disk from one look at it to the next.
 */
#ifndef __DISKSEQ_WATCH_H
#define __DISKSEQ_WATCH_H

#include "../kselftest_harness.h"
#include "diskseq.h"

/* A disk, and what was told so far */
struct watch {
	struct uevent_log log;
	size_t mark;		/* what is new in the log */
	__u64 highest;		/* number of an event before that */
	char name[64];
	int nl;
};

/* What happened between two looks */
struct news {
	unsigned int media;	/* media changes that were announced */
	unsigned int plain;	/* plain change events after the last of them */
	unsigned int requests;	/* to eject the medium */
	unsigned int decreases;	/* of the number, in SEQNUM order */
	__u64 announced;	/* number of the last media change */
	__u64 last;		/* number of the disk's last event */
};

/* The number that it has, or 0 */
static inline __u64 watch_number(const struct watch *w)
{
	__u64 seq = 0;

	return diskseq_sysfs(w->name, &seq) ? 0 : seq;
}

/* What there is to hear of since the last call, up to now */
static inline int watch_hear(struct watch *w, struct news *news)
{
	int ret;

	memset(news, 0, sizeof(*news));
	ret = uevent_fence(w->nl, w->name, &w->log);
	if (ret)
		return ret;
	for (; w->mark < w->log.nr; w->mark++) {
		const struct uevent *ev = &w->log.ev[w->mark];

		if (!uevent_is_own(ev, w->name))
			continue;
		if (ev->diskseq < w->highest)
			news->decreases++;
		w->highest = ev->diskseq;
		/* those of a partition are none of the disk's */
		if (ev->partition)
			continue;
		news->last = ev->diskseq;
		news->requests += ev->eject_request;
		if (ev->media_change) {
			news->media++;
			news->announced = ev->diskseq;
			news->plain = 0;
		} else if (uevent_is_plain_change(ev)) {
			news->plain++;
		}
	}
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

	return watch_hear(w, &news);
}

/* Wait for a new medium or a request to eject one, which stay to be heard of. */
static inline int watch_wait(struct watch *w, bool media)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct uevent ev;
	int ret;

	for (;;) {
		ret = uevent_read(w->nl, &ev, deadline - now_ms());
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		ret = uevent_append(&w->log, &ev);
		if (ret)
			return ret;
		if (uevent_is_own(&ev, w->name) &&
		    (media ? ev.media_change : ev.eject_request))
			return 0;
	}
}

/*
 * For tests. What has happened since the last look is a change of the medium,
 * which had the number @old: by so many draws, each announced, and the last one in
 * both ways. Returns the new number.
 */
static inline __u64 check_change(struct __test_metadata *_metadata,
				 struct watch *w, __u64 old,
				 unsigned int draws)
{
	__u64 by_sysfs, by_ioctl = 0;
	struct news news = {};
	int fd;

	/* first of all, lest the fence hides what came too late */
	by_sysfs = watch_number(w);
	EXPECT_LT(old, by_sysfs);
	EXPECT_EQ(0, watch_hear(w, &news));
	EXPECT_EQ(0, news.decreases);
	EXPECT_EQ(draws, news.media);
	EXPECT_EQ(by_sysfs, news.announced);
	EXPECT_LT(0, news.plain) {
		TH_LOG("no plain change event after the media change");
	}
	EXPECT_EQ(by_sysfs, news.last);
	EXPECT_EQ(0, uevent_unaccounted(w->nl, &w->log, old, by_sysfs));

	fd = open_disk(w->name, O_RDONLY);
	EXPECT_LE(0, fd);
	EXPECT_EQ(0, diskseq_ioctl(fd, &by_ioctl));
	EXPECT_EQ(by_sysfs, by_ioctl);
	close(fd);
	return by_sysfs;
}

/* Nothing has happened since the last look, or, if allowed, a resize. */
static inline void check_nothing(struct __test_metadata *_metadata,
				 struct watch *w, __u64 old, bool resize)
{
	ASSERT_NE(0, old);
	EXPECT_EQ(old, watch_number(w));
	ASSERT_EQ(0, uevent_fence(w->nl, w->name, &w->log));
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
