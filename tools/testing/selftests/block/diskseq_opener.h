/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A thread that does to a disk what udev does: at each event of the disk it opens
 * it, takes a shared lock, reads 4 KiB, and keeps it open for a few milliseconds.
 * What works on a disk must work beside it. It may open the first partition
 * instead, at the events of partitions.
 *
 * Synthetic events with a UUID are left out: they are fences of a test.
 */
#ifndef __DISKSEQ_OPENER_H
#define __DISKSEQ_OPENER_H

#include <pthread.h>
#include <sys/file.h>

#include "diskseq_uevent.h"

struct opener {
	char		path[80];	/* of the node that it opens */
	char		name[64];	/* of the disk */
	bool		partition;
	int		nl;
	int		stop[2];
	unsigned int	events;		/* of the disk */
	unsigned int	opens;		/* that succeeded */
	unsigned int	fences;
	pthread_t	thread;
};

static inline void opener_open(struct opener *o)
{
	struct timespec hold = { .tv_nsec = (2 + o->events * 5 % 14) * 1000000 };
	char buf[4096];
	int fd;

	/* the node may be gone: then udev does not make another */
	fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	counter_inc(&o->opens);
	flock(fd, LOCK_SH | LOCK_NB);
	if (read(fd, buf, sizeof(buf)) < 0)
		hold.tv_nsec = 2000000;
	nanosleep(&hold, NULL);
	close(fd);
}

static inline void *opener_run(void *arg)
{
	struct opener *o = arg;
	struct pollfd pfd[2] = {
		{ .fd = o->nl, .events = POLLIN },
		{ .fd = o->stop[0], .events = POLLIN },
	};
	struct uevent ev;

	for (;;) {
		/* first what has been sent before the stop */
		while (uevent_read(o->nl, &ev, 0) == 1) {
			if (strcmp(ev.disk, o->name))
				continue;
			if (ev.uuid[0]) {
				counter_inc(&o->fences);
				continue;
			}
			if (ev.partition != o->partition || uevent_is_remove(&ev))
				continue;
			counter_inc(&o->events);
			opener_open(o);
		}
		if (pfd[1].revents)
			return NULL;
		poll(pfd, 2, -1);
	}
}

/*
 * The disk need not be there yet. Its node is expected in /dev, as devtmpfs and
 * udev make it.
 */
static inline int opener_start(struct opener *o, const char *disk, bool partition)
{
	int ret;

	memset(o, 0, sizeof(*o));
	o->partition = partition;
	snprintf(o->name, sizeof(o->name), "%s", disk);
	snprintf(o->path, sizeof(o->path), "/dev/%s%s", disk, partition ? "p1" : "");
	o->nl = uevent_open();
	if (o->nl < 0)
		return o->nl;
	if (pipe(o->stop)) {
		ret = -errno;
		close(o->nl);
		return ret;
	}
	ret = -pthread_create(&o->thread, NULL, opener_run, o);
	if (ret) {
		close(o->nl);
		close(o->stop[0]);
		close(o->stop[1]);
	}
	return ret;
}

/* Wait until it has dealt with the events sent so far; the disk must exist. */
static inline int opener_fence(struct opener *o)
{
	unsigned int fences = counter_read(&o->fences);
	char uuid[40];
	int ret;

	uevent_name(uuid);
	ret = uevent_trigger(o->name, uuid);
	if (ret)
		return ret;
	return wait_for_count(&o->fences, fences + 1) ? 0 : -ETIMEDOUT;
}

/* And with those that its own closes have caused, so that it is idle. */
static inline int opener_settle(struct opener *o)
{
	unsigned int opens;
	int ret;

	ret = opener_fence(o);
	do {
		opens = counter_read(&o->opens);
		if (!ret)
			ret = opener_fence(o);
	} while (!ret && counter_read(&o->opens) != opens);
	return ret;
}

/*
 * Returns how often it has opened the disk, after it has dealt with all that
 * was sent before the call.
 */
static inline unsigned int opener_stop(struct opener *o)
{
	close(o->stop[1]);
	pthread_join(o->thread, NULL);
	close(o->stop[0]);
	close(o->nl);
	return o->opens;
}

#endif /* __DISKSEQ_OPENER_H */
