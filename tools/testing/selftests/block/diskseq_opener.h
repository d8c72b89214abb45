/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A thread that does to a disk what udev does: at each event of the whole disk
 * it opens the disk, takes a shared lock, reads 4 KiB, and keeps the disk open
 * for a few milliseconds. What works on a disk must work beside it.
 *
 * Synthetic events with a UUID are left out: they are fences of a test.
 * Include it after diskseq.h.
 */
#ifndef __DISKSEQ_OPENER_H
#define __DISKSEQ_OPENER_H

struct opener {
	char		path[80];	/* of the disk's node */
	char		name[64];
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
	__atomic_add_fetch(&o->opens, 1, __ATOMIC_RELAXED);
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
			if (strcmp(ev.disk, o->name) || ev.partition)
				continue;
			if (ev.uuid[0]) {
				__atomic_add_fetch(&o->fences, 1,
						   __ATOMIC_RELEASE);
				continue;
			}
			__atomic_add_fetch(&o->events, 1, __ATOMIC_RELAXED);
			opener_open(o);
		}
		if (pfd[1].revents)
			return NULL;
		poll(pfd, 2, -1);
	}
}

/*
 * @name need not be there yet. Its node is expected in /dev, as devtmpfs and
 * udev make it.
 */
static inline int opener_start(struct opener *o, const char *name)
{
	int ret;

	memset(o, 0, sizeof(*o));
	snprintf(o->name, sizeof(o->name), "%s", name);
	snprintf(o->path, sizeof(o->path), "/dev/%s", name);
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

/* Wait until it has dealt with all events sent so far; the disk must exist. */
static inline int opener_settle(struct opener *o)
{
	unsigned int fences = __atomic_load_n(&o->fences, __ATOMIC_ACQUIRE);
	long long deadline = now_ms() + PATIENCE_MS;
	char uuid[40];
	int ret;

	uevent_name(uuid);
	ret = uevent_trigger(o->name, uuid);
	if (ret)
		return ret;
	while (__atomic_load_n(&o->fences, __ATOMIC_ACQUIRE) == fences) {
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		nap();
	}
	return 0;
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
