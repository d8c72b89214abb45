// SPDX-License-Identifier: GPL-2.0
/*
 * An example: attach a file to a loop device, read-only, and wait until udev is
 * done with it, or with a partition of it, by number. Build with -ludev; wants the
 * rules that are beside it.
 *
 *   diskseq-wait [-t] FILE [PARTITION]
 *
 * prints the name of the disk or partition, its number, and "came" or, if the event
 * was lost, "asked". The device stays attached. -t is for the test: the
 * buffer is as small as it can be, and no event is read before a line is.
 *
 * diskseq_wait.c of the kernel's selftests does the same with the kernel's own
 * events, and explains more. udev's events arrive later, so when some were lost, the
 * expected one may still be to come. No time limit
 * is needed here either.
 */
#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <linux/loop.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, uint64_t)
#endif

struct wanted {
	char		disk[32];	/* "loop0" */
	char		name[64];	/* "loop0", or "loop0p1" */
	char		link[96];	/* what the rules make of name and number */
	uint64_t	diskseq;
};

enum verdict { WAIT_ON, CAME, ASKED, GONE };

static int fail(const char *what)
{
	fprintf(stderr, "diskseq-wait: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct udev_monitor *subscribe(bool test)
{
	struct udev *udev = udev_new();
	struct udev_monitor *monitor = udev_monitor_new_from_netlink(udev, "udev");

	if (!monitor ||
	    udev_monitor_filter_add_match_subsystem_devtype(monitor, "block", NULL) < 0 ||
	    (test && udev_monitor_set_receive_buffer_size(monitor, 1) < 0) ||
	    udev_monitor_enable_receiving(monitor) < 0)
		fail("udev's events");
	return monitor;
}

/*
 * The number is read from the descriptor that attached the file. As long as that is
 * open, others cannot detach it, attach another or remove the device.
 */
static int configure(int loop, int file, uint64_t *diskseq)
{
	struct loop_config config = {
		.fd = file,
		.info.lo_flags = LO_FLAGS_PARTSCAN,
	};

	if (ioctl(loop, LOOP_CONFIGURE, &config))
		return -1;
	return ioctl(loop, BLKGETDISKSEQ, diskseq);
}

/*
 * Somebody else may take the free device first. It is attached to be read only:
 * whenever a descriptor that may write to the disk is closed, udev has the kernel
 * read the partition table once more, and the partitions go and come again.
 * (flock() with LOCK_SH keeps udev from it for as long as one must be able to write.)
 */
static void attach(const char *path, struct wanted *w)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	char node[64];
	int loop, ret;

	if (control < 0 || file < 0)
		fail(control < 0 ? "/dev/loop-control" : path);
	do {
		snprintf(w->disk, sizeof(w->disk), "loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		snprintf(node, sizeof(node), "/dev/%s", w->disk);
		loop = open(node, O_RDONLY | O_CLOEXEC);
		if (loop < 0)
			fail(node);
		ret = configure(loop, file, &w->diskseq);
		close(loop);
	} while (ret && errno == EBUSY);
	if (ret)
		fail(node);
	close(file);
	close(control);
}

/* A smaller number is old news, a greater one means another disk. */
static enum verdict judge(struct udev_device *event, const struct wanted *w)
{
	const char *number = udev_device_get_property_value(event, "DISKSEQ");
	const char *name = udev_device_get_sysname(event);
	uint64_t diskseq = number ? strtoull(number, NULL, 10) : 0;
	size_t n = strlen(w->disk);

	if (strncmp(name, w->disk, n) || (name[n] != '\0' && name[n] != 'p') ||
	    diskseq < w->diskseq)
		return WAIT_ON;
	if (diskseq > w->diskseq)
		return GONE;
	return !strcmp(name, w->name) && strcmp(udev_device_get_action(event), "remove") ?
	       CAME : WAIT_ON;
}

/* By name, and sure that it is the one: else ESTALE. */
static int open_by_number(const char *name, uint64_t diskseq)
{
	uint64_t seq = 0;
	char node[96];
	int fd;

	snprintf(node, sizeof(node), "/dev/%s", name);
	fd = open(node, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (!ioctl(fd, BLKGETDISKSEQ, &seq) && seq == diskseq)
		return fd;
	close(fd);
	errno = ESTALE;
	return -1;
}

/*
 * The kernel knows whether it is the same disk, and a link by number whether udev
 * has been there. udev makes the link before it sends the event: where there is
 * no link yet, the event is still to come, or to be lost.
 */
static enum verdict ask(const struct wanted *w)
{
	int fd = open_by_number(w->disk, w->diskseq);

	if (fd < 0)
		return GONE;
	close(fd);
	return access(w->link, F_OK) ? WAIT_ON : ASKED;
}

/* ENOBUFS comes once; then events are dropped until all that are there are read. */
static enum verdict wait_for(struct udev_monitor *monitor, const struct wanted *w)
{
	struct pollfd pfd = { .fd = udev_monitor_get_fd(monitor), .events = POLLIN };
	enum verdict verdict = WAIT_ON;
	bool lost = false;

	while (verdict == WAIT_ON) {
		struct udev_device *event = udev_monitor_receive_device(monitor);

		if (event) {
			verdict = judge(event, w);
			udev_device_unref(event);
		} else if (errno == ENOBUFS) {
			lost = true;
		} else if (errno != EAGAIN && errno != EINTR) {
			fail("udev's events");
		} else if (lost) {
			lost = false;
			verdict = ask(w);
		} else {
			poll(&pfd, 1, -1);
		}
	}
	return verdict;
}

int main(int argc, char **argv)
{
	bool test = argc > 1 && !strcmp(argv[1], "-t");
	struct udev_monitor *monitor;
	enum verdict verdict;
	struct wanted w;

	argc -= test;
	argv += test;
	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: diskseq-wait [-t] FILE [PARTITION]\n");
		return 2;
	}
	monitor = subscribe(test);
	attach(argv[1], &w);
	snprintf(w.name, sizeof(w.name), argc == 3 ? "%sp%s" : "%s", w.disk, argv[2]);
	snprintf(w.link, sizeof(w.link), argc == 3 ? "/dev/disk/by-sequence/%llu-part%s" :
		 "/dev/disk/by-sequence/%llu", (unsigned long long)w.diskseq, argv[2]);
	if (test && getchar() == EOF)
		return 2;

	verdict = wait_for(monitor, &w);
	if (verdict == GONE || open_by_number(w.name, w.diskseq) < 0) {
		errno = ESTALE;
		fail(w.name);
	}
	printf("%s %llu %s\n", w.name, (unsigned long long)w.diskseq,
	       verdict == CAME ? "came" : "asked");
	return 0;
}
