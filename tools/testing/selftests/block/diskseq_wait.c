// SPDX-License-Identifier: GPL-2.0
/*
 * How to attach a file to a loop device and wait for the uevent that reports it,
 * step by step as in Documentation/block/diskseq.rst. An example to copy from:
 * plain netlink, no library, and no time limit.
 *
 *   diskseq_wait FILE [PARTITION]
 *
 * waits for the disk, or for a partition of it, and prints its name and number. The
 * device stays attached.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/netlink.h>
#include <linux/types.h>

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
#endif
#ifndef LOOP_CONFIGURE
#define LOOP_CONFIGURE 0x4C0A
struct loop_config {
	__u32			fd;
	__u32			block_size;
	struct loop_info64	info;
	__u64			__reserved[8];
};
#endif

/* Where uevents come from */
struct wait_source {
	int	fd;
	bool	lost;	/* events have been lost since the queue was empty */
};

/* Which event of which disk is waited for */
struct wait_event {
	const char	*disk;		/* "loop0" */
	const char	*devname;	/* "loop0", or "loop0p1" */
	const char	*action;
	__u64		diskseq;
	__u64		seqnum;		/* out: of the event that came */
};

enum wait_verdict {
	WAIT_CAME,	/* the event */
	WAIT_MISSED,	/* it may be lost, but the disk is still the one */
	WAIT_GONE,	/* the disk is another by now */
	WAIT_FAILED,	/* errno */
};

/* Step 1: subscribe, before anything is attached. */
static int wait_subscribe(struct wait_source *src)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };

	src->lost = false;
	src->fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			 NETLINK_KOBJECT_UEVENT);
	if (src->fd < 0)
		return -1;
	return bind(src->fd, (struct sockaddr *)&addr, sizeof(addr));
}

/*
 * Step 2: attach, and read the number from the same descriptor. As long as that is
 * open, another program's LOOP_CLR_FD only marks the device to be detached at the
 * last close, and attaching another file or removing the device fails with EBUSY:
 * the number is that of @file. For LOOP_CHANGE_FD and a changed offset see
 * Documentation/block/diskseq.rst.
 */
static int wait_attach(int loop, int file, __u32 flags, __u64 *diskseq)
{
	struct loop_config config = {
		.fd = file,
		.info.lo_flags = flags,
	};
	int err;

	if (ioctl(loop, LOOP_CONFIGURE, &config))
		return -1;
	if (!ioctl(loop, BLKGETDISKSEQ, diskseq))
		return 0;
	err = errno;
	ioctl(loop, LOOP_CLR_FD, 0);
	errno = err;
	return -1;
}

/* Step 5: what is opened by a name is the right one if its number is. */
static int wait_open(const char *devname, __u64 diskseq, int flags)
{
	char path[64];
	__u64 seq;
	int fd;

	snprintf(path, sizeof(path), "/dev/%s", devname);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (!ioctl(fd, BLKGETDISKSEQ, &seq) && seq == diskseq)
		return fd;
	close(fd);
	errno = ESTALE;
	return -1;
}

/* The value of a variable of an event, or "" */
static const char *wait_var(const char *buf, size_t len, const char *key)
{
	const char *var, *end = buf + len;
	size_t n = strlen(key);

	for (var = buf; var < end; var += strlen(var) + 1)
		if (!strncmp(var, key, n) && var[n] == '=')
			return var + n + 1;
	return "";
}

/* Is it about the disk, or a partition of it? ".../block/loop0/loop0p1" */
static bool wait_is_of(const char *devpath, const char *disk)
{
	const char *name = strstr(devpath, "/block/");
	size_t n = strlen(disk);

	if (!name)
		return false;
	name += strlen("/block/");
	return !strncmp(name, disk, n) && (name[n] == '\0' || name[n] == '/');
}

/*
 * Step 3: a smaller number is about an earlier medium; a greater one means that
 * the disk was reused.
 */
static bool wait_judge(const char *buf, size_t len, struct wait_event *ev,
		       enum wait_verdict *verdict)
{
	__u64 seq = strtoull(wait_var(buf, len, "DISKSEQ"), NULL, 10);

	if (seq < ev->diskseq ||
	    !wait_is_of(wait_var(buf, len, "DEVPATH"), ev->disk))
		return false;
	*verdict = WAIT_GONE;
	if (seq > ev->diskseq)
		return true;
	*verdict = WAIT_CAME;
	ev->seqnum = strtoull(wait_var(buf, len, "SEQNUM"), NULL, 10);
	return !strcmp(wait_var(buf, len, "ACTION"), ev->action) &&
	       !strcmp(wait_var(buf, len, "DEVNAME"), ev->devname);
}

/*
 * Step 4: an event was lost, so look for the state instead. Open the device by
 * its name and compare the number: if it differs, the disk has been reused. An
 * attach has sent all of its events when it returns, so none is still to come.
 */
static enum wait_verdict wait_ask(const struct wait_event *ev)
{
	int fd = wait_open(ev->disk, ev->diskseq, O_RDONLY | O_NONBLOCK);

	if (fd >= 0) {
		close(fd);
		return WAIT_MISSED;
	}
	switch (errno) {
	case ESTALE:
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return WAIT_GONE;
	default:
		return WAIT_FAILED;
	}
}

/*
 * Steps 3 and 4. ENOBUFS is returned once. After it the kernel drops all
 * further events silently until the queue is empty, so look for the state only
 * then. A program that uses the socket for the next disk as well must keep
 * @lost with it, because an ENOBUFS from before the attach counts, too.
 */
static enum wait_verdict wait_for(struct wait_source *src, struct wait_event *ev)
{
	struct pollfd pfd = { .fd = src->fd, .events = POLLIN };
	enum wait_verdict verdict;

	for (;;) {
		struct sockaddr_nl from;
		socklen_t size = sizeof(from);
		char buf[8192];
		ssize_t len;

		len = recvfrom(src->fd, buf, sizeof(buf) - 1, 0,
			       (struct sockaddr *)&from, &size);
		if (len >= 0) {
			buf[len] = '\0';
			/* port 0 is the kernel */
			if (!from.nl_pid && wait_judge(buf, len, ev, &verdict))
				return verdict;
		} else if (errno == ENOBUFS) {
			src->lost = true;
		} else if (errno == EAGAIN && src->lost) {
			src->lost = false;
			return wait_ask(ev);
		} else if (errno == EAGAIN) {
			poll(&pfd, 1, -1);
		} else if (errno != EINTR) {
			return WAIT_FAILED;
		}
	}
}

#ifndef DISKSEQ_WAIT_NO_MAIN

static int fail(const char *what)
{
	fprintf(stderr, "diskseq_wait: %s: %s\n", what, strerror(errno));
	return 1;
}

/* Another program may take the free device first. */
static int attach_to_free(int file, char *disk, size_t size, __u64 *diskseq)
{
	int control, loop, nr, ret;
	char path[64];

	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return -1;
	do {
		nr = ioctl(control, LOOP_CTL_GET_FREE);
		if (nr < 0)
			return -1;
		snprintf(disk, size, "loop%d", nr);
		snprintf(path, sizeof(path), "/dev/%s", disk);
		loop = open(path, O_RDWR | O_CLOEXEC);
		if (loop < 0)
			return -1;
		ret = wait_attach(loop, file, LO_FLAGS_PARTSCAN, diskseq);
		close(loop);
	} while (ret && errno == EBUSY);
	close(control);
	return ret;
}

int main(int argc, char **argv)
{
	struct wait_event ev = { .action = "change" };
	char disk[32], devname[64];
	struct wait_source src;
	int file, fd;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: diskseq_wait FILE [PARTITION]\n");
		return 2;
	}
	file = open(argv[1], O_RDWR | O_CLOEXEC);
	if (file < 0)
		return fail(argv[1]);
	if (wait_subscribe(&src))
		return fail("netlink");
	if (attach_to_free(file, disk, sizeof(disk), &ev.diskseq))
		return fail("cannot attach");

	ev.disk = disk;
	snprintf(devname, sizeof(devname), "%s", disk);
	if (argc == 3) {
		ev.action = "add";
		snprintf(devname, sizeof(devname), "%sp%s", disk, argv[2]);
	}
	ev.devname = devname;

	switch (wait_for(&src, &ev)) {
	case WAIT_CAME:
	case WAIT_MISSED:
		break;
	case WAIT_GONE:
		errno = ESTALE;
		return fail(disk);
	case WAIT_FAILED:
		return fail(disk);
	}
	fd = wait_open(devname, ev.diskseq, O_RDONLY);
	if (fd < 0)
		return fail(devname);
	printf("%s %llu\n", devname, (unsigned long long)ev.diskseq);
	return 0;
}

#endif /* !DISKSEQ_WAIT_NO_MAIN */
