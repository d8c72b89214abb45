/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Loop devices, and files for them.
 */
#ifndef __DISKSEQ_LOOP_H
#define __DISKSEQ_LOOP_H

#include <sys/file.h>
#include <linux/loop.h>

#include "diskseq_cleanup.h"
#include "diskseq_disk.h"
#include "diskseq_number.h"
#include "diskseq_table.h"

#ifndef LOOP_CONFIGURE
#define LOOP_CONFIGURE 0x4C0A
struct loop_config {
	__u32			fd;
	__u32			block_size;
	struct loop_info64	info;
	__u64			__reserved[8];
};
#endif

#define LOOP_FIRST	200		/* numbers that no other program uses */
#define LOOP_MAX	256		/* how many such */

struct loop_devices {
	bool		made[LOOP_MAX];
	bool		probed;
	bool		detaches_late;
	const char	*unusable;
};

static struct loop_devices *loop_devices;

static inline int loop_ctl(unsigned int cmd, long arg)
{
	int fd, ret;

	fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		load_module("loop", NULL);
		fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	}
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, cmd, arg);
	if (ret < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* It is there, and to be removed at the end, or no longer. */
static inline void loop_mark(int nr, bool made)
{
	if (nr >= LOOP_FIRST && nr < LOOP_FIRST + LOOP_MAX)
		loop_devices->made[nr - LOOP_FIRST] = made;
}

/* Another program may have the disk open for a moment. */
static inline int loop_remove(int nr)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	while ((ret = loop_ctl(LOOP_CTL_REMOVE, nr)) == -EBUSY &&
	       now_ms() < deadline)
		nap();
	if (ret < 0)
		return ret;
	loop_mark(nr, false);
	return 0;
}

static inline int loop_add_nr(int nr)
{
	int ret = loop_ctl(LOOP_CTL_ADD, nr);

	if (ret >= 0)
		loop_mark(nr, true);
	return ret;
}

/* Returns the number of a new loop device. */
static inline int loop_add(void)
{
	int nr, ret = -ENOSPC;

	for (nr = LOOP_FIRST; nr < LOOP_FIRST + LOOP_MAX; nr++) {
		ret = loop_add_nr(nr);
		if (ret != -EEXIST)
			break;
	}
	return ret;
}

/* A file in memory; with a DOS partition table of two partitions if wanted. */
static inline int backing_file(size_t size, bool partitioned)
{
	unsigned char sector[SECTOR] = {};
	int fd;

	fd = syscall(__NR_memfd_create, "diskseq", 1U /* MFD_CLOEXEC */);
	if (fd < 0)
		fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (partitioned)
		table_two(sector);
	if (ftruncate(fd, size) ||
	    (partitioned && pwrite(fd, sector, SECTOR, 0) != SECTOR)) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

static inline int loop_configure(int fd, int backing, unsigned int flags)
{
	struct loop_config config = {
		.fd = backing,
		.info.lo_flags = flags,
	};

	return ioctl(fd, LOOP_CONFIGURE, &config) ? -errno : 0;
}

static inline int loop_status(int fd, struct loop_info64 *info)
{
	return ioctl(fd, LOOP_GET_STATUS64, info) ? -errno : 0;
}

static inline bool loop_is_bound(int fd)
{
	struct loop_info64 info;

	return !loop_status(fd, &info);
}

/*
 * Make @fd refer to another file, atomically: no other thread can be given the
 * number meanwhile.
 */
static inline int take_place(int other, int fd)
{
	int ret = dup3(other, fd, O_CLOEXEC) < 0 ? -errno : 0;

	close(other);
	return ret;
}

/*
 * Does the disk have a file? Since v6.11 LOOP_GET_STATUS64 denies it as soon as
 * the only opener has called LOOP_CLR_FD. An attach that found no memory for
 * the attribute succeeds without it, so a disk with a size has a file, too.
 */
static inline bool loop_has_file(const char *name)
{
	char path[128], size[32];

	disk_path(path, name, "loop/backing_file");
	if (!access(path, F_OK))
		return true;
	disk_path(path, name, "size");
	return !read_text(path, size, sizeof(size)) && atoll(size);
}

/* Close a disk, and open it again under the same descriptor */
static inline int loop_reopen(int fd, const char *name)
{
	int flags = fcntl(fd, F_GETFL), other;

	other = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (flags < 0 || other < 0 || take_place(other, fd))
		return -errno;
	/* for another opener to close it, too */
	nap();
	other = open_disk(name, flags);
	if (other < 0)
		return other;
	flock(other, LOCK_EX | LOCK_NB);
	return take_place(other, fd);
}

/* The name of the disk that @fd is of */
static inline int loop_name(int fd, char name[static 32])
{
	char link[64], path[128];
	struct stat st;
	ssize_t len;

	if (fstat(fd, &st))
		return -errno;
	snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(st.st_rdev),
		 minor(st.st_rdev));
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return -errno;
	path[len] = '\0';
	snprintf(name, 32, "%.31s", strrchr(path, '/') + 1);
	return 0;
}

/*
 * While another program has the disk open, be it for a moment, LOOP_CLR_FD only
 * marks it to be detached at the last close, and since v6.11 it never does more.
 */
static inline int loop_detach(int fd)
{
	long long deadline = now_ms() + PATIENCE_MS;
	char name[32];
	int ret = loop_name(fd, name);

	if (!ret && ioctl(fd, LOOP_CLR_FD, 0))
		ret = -errno;
	while (!ret && loop_has_file(name)) {
		if (now_ms() > deadline)
			return -EBUSY;
		ret = loop_reopen(fd, name);
	}
	return ret;
}

struct loop {
	int	nr;
	int	fd;
	char	name[16];
};

static inline int loop_open(struct loop *lo, int flags)
{
	lo->fd = open_disk(lo->name, flags);
	if (lo->fd < 0)
		return lo->fd;
	/* udev keeps off a disk that is locked, most of the time */
	flock(lo->fd, LOCK_EX | LOCK_NB);
	return 0;
}

static inline void loop_close(struct loop *lo)
{
	if (lo->fd >= 0)
		close(lo->fd);
	lo->fd = -1;
}

static inline int loop_create(struct loop *lo)
{
	lo->fd = -1;
	lo->nr = loop_add();
	if (lo->nr < 0)
		return lo->nr;
	snprintf(lo->name, sizeof(lo->name), "loop%d", lo->nr);
	return loop_open(lo, O_RDWR);
}

static inline int loop_destroy(struct loop *lo)
{
	if (lo->fd >= 0)
		ioctl(lo->fd, LOOP_CLR_FD, 0);
	loop_close(lo);
	return lo->nr < 0 ? lo->nr : loop_remove(lo->nr);
}

/* Does LOOP_CLR_FD leave the file attached until the last close, as since v6.11? */
static inline bool loop_probe_detach(struct loop *lo)
{
	int backing = backing_file(4096, false);
	long long deadline = now_ms() + 1000;
	bool late = false;

	if (backing < 0)
		return false;
	/* another opener has the same effect, but not for long */
	do {
		if (ioctl(lo->fd, LOOP_SET_FD, backing) ||
		    ioctl(lo->fd, LOOP_CLR_FD, 0))
			break;
		late = loop_has_file(lo->name);
		if (late && loop_reopen(lo->fd, lo->name))
			break;
	} while (late && now_ms() < deadline && udev_is_running());
	close(backing);
	return late;
}

static inline const char *loop_probe(void)
{
	const char *reason = NULL;
	struct loop lo;

	if (geteuid())
		return "needs root";
	if (access("/sys/block", F_OK))
		return "needs sysfs";
	if (loop_create(&lo))
		return "needs the loop driver and LOOP_CTL_ADD";
	if (!has_diskseq(lo.name, lo.fd))
		reason = "kernel has no disk sequence numbers";
	loop_devices->detaches_late = loop_probe_detach(&lo);
	loop_destroy(&lo);
	return reason;
}

/* Why the tests that use loop devices can't run here, or NULL. */
static inline const char *loop_unusable(void)
{
	if (!loop_devices->probed) {
		loop_devices->unusable = loop_probe();
		loop_devices->probed = true;
	}
	return loop_devices->unusable;
}

/* Why a file cannot be detached while the disk is open, or NULL */
static inline const char *loop_detach_unusable(void)
{
	const char *reason = loop_unusable();

	if (!reason && loop_devices->detaches_late)
		reason = "this kernel detaches at the last close only";
	return reason;
}

static inline void loops_remove(void)
{
	int i;

	for (i = 0; i < LOOP_MAX; i++) {
		struct loop lo = { .nr = LOOP_FIRST + i };

		if (!loop_devices->made[i])
			continue;
		snprintf(lo.name, sizeof(lo.name), "loop%d", lo.nr);
		loop_open(&lo, O_RDONLY);
		loop_destroy(&lo);
	}
}

static __attribute__((constructor)) void loops_init(void)
{
	loop_devices = shared_memory(sizeof(*loop_devices));
	at_end(loops_remove);
}

#endif /* __DISKSEQ_LOOP_H */
