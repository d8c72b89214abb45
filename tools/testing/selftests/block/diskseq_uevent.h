/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Uevents of disks and partitions, as the kernel sends them.
 */
#ifndef __DISKSEQ_UEVENT_H
#define __DISKSEQ_UEVENT_H

#include <poll.h>
#include <sys/socket.h>
#include <linux/netlink.h>

#include "diskseq_disk.h"

struct uevent {
	__u64			seqnum;
	__u64			diskseq;	/* 0: none */
	char			action[16];
	char			devpath[256];
	char			devname[64];
	char			disk[64];	/* the whole disk's name */
	char			uuid[40];	/* of a synthetic event */
	bool			partition;
	bool			media_change;
	bool			eject_request;
	bool			ro_changed;
	bool			extra;		/* has more than ACTION=change */
};

struct uevent_log {
	struct uevent	*ev;
	size_t		nr;
	size_t		room;
};

static inline int uevent_open(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd, size = 256 << 20;

	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    NETLINK_KOBJECT_UEVENT);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    bind(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

static inline bool uevent_get(const char *var, const char *key, const char **val)
{
	size_t len = strlen(key);

	if (strncmp(var, key, len) || var[len] != '=')
		return false;
	*val = var + len + 1;
	return true;
}

/* Only events of disks and partitions count. */
static inline bool uevent_parse(const char *buf, size_t len, struct uevent *ev)
{
	const char *var, *val, *end = buf + len;
	bool block = false;

	memset(ev, 0, sizeof(*ev));
	for (var = buf; var < end; var += strlen(var) + 1) {
		if (uevent_get(var, "ACTION", &val))
			snprintf(ev->action, sizeof(ev->action), "%s", val);
		else if (uevent_get(var, "DEVPATH", &val))
			snprintf(ev->devpath, sizeof(ev->devpath), "%s", val);
		else if (uevent_get(var, "DEVNAME", &val))
			snprintf(ev->devname, sizeof(ev->devname), "%s", val);
		else if (uevent_get(var, "SUBSYSTEM", &val))
			block = !strcmp(val, "block");
		else if (uevent_get(var, "DEVTYPE", &val))
			ev->partition = !strcmp(val, "partition");
		else if (uevent_get(var, "SYNTH_UUID", &val))
			snprintf(ev->uuid, sizeof(ev->uuid), "%s", val);
		else if (uevent_get(var, "SEQNUM", &val))
			ev->seqnum = strtoull(val, NULL, 10);
		else if (uevent_get(var, "DISKSEQ", &val))
			ev->diskseq = strtoull(val, NULL, 10);
		else if (uevent_get(var, "DISK_MEDIA_CHANGE", &val))
			ev->media_change = !strcmp(val, "1");
		else if (uevent_get(var, "DISK_EJECT_REQUEST", &val))
			ev->eject_request = !strcmp(val, "1");
		else if (uevent_get(var, "DISK_RO", &val))
			ev->ro_changed = true;
		if (uevent_get(var, "DISK_MEDIA_CHANGE", &val) ||
		    uevent_get(var, "DISK_EJECT_REQUEST", &val) ||
		    uevent_get(var, "DISK_RO", &val) ||
		    uevent_get(var, "RESIZE", &val))
			ev->extra = true;
	}
	val = strstr(ev->devpath, "/block/");
	if (!block || !val)
		return false;
	val += strlen("/block/");
	snprintf(ev->disk, sizeof(ev->disk), "%.*s", (int)strcspn(val, "/"), val);
	return true;
}

/*
 * 1: an event, 0: none came in time, -ENOBUFS: some were lost, and no test can
 * rely on what it has read.
 */
static inline int uevent_read(int fd, struct uevent *ev, int timeout_ms)
{
	long long deadline = now_ms() + timeout_ms;

	for (;;) {
		char buf[16384];
		struct sockaddr_nl from;
		struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) - 1 };
		struct msghdr msg = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &iov,
			.msg_iovlen = 1,
		};
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		long long left;
		ssize_t len;

		len = recvmsg(fd, &msg, 0);
		if (len < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (len >= 0) {
			buf[len] = '\0';
			/* pid 0: from the kernel */
			if (!from.nl_pid && uevent_parse(buf, len, ev))
				return 1;
			continue;
		}
		left = deadline - now_ms();
		if (left <= 0)
			return 0;
		poll(&pfd, 1, left);
	}
}

static inline bool uevent_is_add(const struct uevent *ev)
{
	return !strcmp(ev->action, "add");
}

static inline bool uevent_is_remove(const struct uevent *ev)
{
	return !strcmp(ev->action, "remove");
}

static inline bool uevent_is_change(const struct uevent *ev)
{
	return !strcmp(ev->action, "change");
}

/* A change with no other key: no consumer ignores this one. */
static inline bool uevent_is_plain_change(const struct uevent *ev)
{
	return uevent_is_change(ev) && !ev->extra;
}

static inline bool uevent_is_media_change(const struct uevent *ev)
{
	return ev->media_change;
}

/* Does it announce a number? @known is the highest that was announced before. */
static inline bool uevent_announces(const struct uevent *ev, __u64 known)
{
	return ev->media_change ||
	       (ev->diskseq > known && uevent_is_plain_change(ev));
}

/*
 * May the attach of a loop device send a plain change event only? Kernels newer than
 * v5.14 may suppress all others until the device is complete.
 */
static inline bool attach_may_be_plain(void)
{
	return !kernel_is_before(5, 15);
}

static inline bool uevent_is_eject_request(const struct uevent *ev)
{
	return ev->eject_request;
}

/* An event of @disk that was not triggered by a write to a uevent file */
static inline bool uevent_is_own(const struct uevent *ev, const char *disk)
{
	return !ev->uuid[0] && !strcmp(ev->disk, disk);
}

static inline int uevent_append(struct uevent_log *log, const struct uevent *ev)
{
	size_t i;

	if (log->nr == log->room) {
		size_t room = log->room ? 2 * log->room : 64;
		struct uevent *mem = realloc(log->ev, room * sizeof(*mem));

		if (!mem)
			return -ENOMEM;
		log->ev = mem;
		log->room = room;
	}
	/* keep the kernel's order, whatever the order of arrival */
	for (i = log->nr++; i && ev->seqnum < log->ev[i - 1].seqnum; i--)
		log->ev[i] = log->ev[i - 1];
	log->ev[i] = *ev;
	return 0;
}

/* A name by which to recognize a synthetic event */
static inline void uevent_name(char uuid[static 40])
{
	static unsigned int nr;

	snprintf(uuid, 40, "%08x-d15c-4e9a-8000-%012x",
		 __atomic_add_fetch(&nr, 1, __ATOMIC_RELAXED), getpid());
}

static inline int uevent_trigger(const char *disk, const char *uuid)
{
	char path[128], text[64];

	disk_path(path, disk, "uevent");
	snprintf(text, sizeof(text), "change %s", uuid);
	return write_text(path, text);
}

/*
 * Read all events up to a synthetic one that is triggered here. An event that is not
 * in the log then was not sent before; a sleep cannot prove that.
 */
static inline int uevent_fence(int fd, const char *disk, struct uevent_log *log)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct uevent ev;
	char uuid[40];
	int ret;

	uevent_name(uuid);
	ret = uevent_trigger(disk, uuid);
	if (ret)
		return ret;
	for (;;) {
		ret = uevent_read(fd, &ev, deadline - now_ms());
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		if (!strcmp(ev.uuid, uuid))
			return 0;
		ret = uevent_append(log, &ev);
		if (ret)
			return ret;
	}
}

/* How many numbers between @from and @to, both excluded, does no event have? */
static inline unsigned int uevent_missing(const struct uevent_log *log,
					  __u64 from, __u64 to)
{
	unsigned int missing = 0;
	__u64 seq;
	size_t i;

	for (seq = from + 1; seq < to; seq++) {
		for (i = 0; i < log->nr; i++)
			if (log->ev[i].diskseq == seq)
				break;
		if (i == log->nr)
			missing++;
	}
	return missing;
}

/*
 * The counter is one for all disks, so another disk may have been assigned a
 * number between two of ours. That is announced as well, of a new disk somewhat
 * later. How many numbers are in no event?
 */
static inline unsigned int uevent_unaccounted(int fd, struct uevent_log *log,
					      __u64 from, __u64 to)
{
	long long deadline = now_ms() + 1000;
	unsigned int missing;
	struct uevent ev;

	for (;;) {
		missing = uevent_missing(log, from, to);
		if (!missing ||
		    uevent_read(fd, &ev, deadline - now_ms()) <= 0 ||
		    uevent_append(log, &ev))
			return missing;
	}
}

/*
 * The next event of a disk for which @is returns true and whose DEVPATH
 * contains @part
 */
static inline int uevent_wait_for_disk(int fd, struct uevent_log *log,
				       bool (*is)(const struct uevent *ev),
				       const char *part, struct uevent *ev)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	for (;;) {
		ret = uevent_read(fd, ev, deadline - now_ms());
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		ret = uevent_append(log, ev);
		if (ret)
			return ret;
		if (is(ev) && !ev->partition && !ev->uuid[0] &&
		    strstr(ev->devpath, part))
			return 0;
	}
}

#endif /* __DISKSEQ_UEVENT_H */
