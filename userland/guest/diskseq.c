// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests need and not every Debian has a program for:
 *
 *   diskseq DEVICE...	the number of each, as the ioctl gives it
 *   diskseq --reuse IMAGE	attaches IMAGE to whatever loop device is free and
 *			detaches it, over and over until SIGTERM; prints how often
 *   diskseq --cat FILE	to be run inside of an image that has nothing else
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, uint64_t)
#endif

static volatile sig_atomic_t stop;

static int fail(const char *what)
{
	fprintf(stderr, "diskseq: %s: %s\n", what, strerror(errno));
	return 1;
}

static int number(const char *path)
{
	uint64_t seq;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, BLKGETDISKSEQ, &seq))
		return fail(path);
	printf("%llu\n", (unsigned long long)seq);
	close(fd);
	return 0;
}

static void on_term(int signal)
{
	(void)signal;
	stop = 1;
}

/*
 * An attachment is ten events. If it were over before udev had dealt with the last
 * one's, udev would have minutes of work left when the test ends. Others keep udev
 * busy, too: not longer than a second.
 */
static void let_udev_follow(void)
{
	int i;

	for (i = 0; i < 20 && !stop; i++) {
		if (i >= 4 && access("/run/udev/queue", F_OK))
			break;
		usleep(50000);
	}
}

static int reuse(const char *image)
{
	struct loop_config config = {
		.info.lo_flags = LO_FLAGS_PARTSCAN | LO_FLAGS_READ_ONLY,
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	unsigned long attached = 0;
	char path[32];
	int fd, nr;

	config.fd = open(image, O_RDONLY | O_CLOEXEC);
	if (control < 0 || (int)config.fd < 0)
		return fail(image);
	signal(SIGTERM, on_term);
	while (!stop) {
		nr = ioctl(control, LOOP_CTL_GET_FREE);
		if (nr < 0)
			return fail("LOOP_CTL_GET_FREE");
		snprintf(path, sizeof(path), "/dev/loop%d", nr);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return fail(path);
		/* Somebody else may have been faster. */
		if (!ioctl(fd, LOOP_CONFIGURE, &config)) {
			attached++;
			let_udev_follow();
			if (ioctl(fd, LOOP_CLR_FD, 0))
				return fail("LOOP_CLR_FD");
		} else if (errno != EBUSY) {
			return fail("LOOP_CONFIGURE");
		}
		close(fd);
	}
	printf("%lu\n", attached);
	return 0;
}

static int cat(const char *path)
{
	int fd = open(path, O_RDONLY);
	char buf[4096];
	ssize_t len;

	if (fd < 0)
		return fail(path);
	while ((len = read(fd, buf, sizeof(buf))) > 0)
		if (write(1, buf, len) != len)
			return fail("write");
	return len ? fail(path) : 0;
}

int main(int argc, char **argv)
{
	int status = 0, i;

	if (argc == 3 && !strcmp(argv[1], "--reuse"))
		return reuse(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "--cat"))
		return cat(argv[2]);
	for (i = 1; i < argc; i++)
		status |= number(argv[i]);
	return status;
}
