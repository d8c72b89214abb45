/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks by their names, without a node in /dev if need be.
 */
#ifndef __DISKSEQ_DISK_H
#define __DISKSEQ_DISK_H

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "diskseq_util.h"

/* An attribute of a disk, or of its SCSI device if below device/ */
static inline void disk_path(char path[static 128], const char *disk,
			     const char *attr)
{
	snprintf(path, 128, "/sys/block/%s/%s", disk, attr);
}

/* By path below /sys/block: "loop0", or "loop0/loop0p1" */
static inline int disk_devnum(const char *dev, dev_t *devnum)
{
	unsigned int major, minor;
	char path[128], buf[32];
	int ret;

	disk_path(path, dev, "dev");
	ret = read_text(path, buf, sizeof(buf));
	if (ret)
		return ret;
	if (sscanf(buf, "%u:%u", &major, &minor) != 2)
		return -EINVAL;
	*devnum = makedev(major, minor);
	return 0;
}

/* Open a disk or partition, also where /dev has no node of it. */
static inline int open_disk(const char *dev, int flags)
{
	const char *name = strrchr(dev, '/');
	char path[128];
	struct stat st;
	dev_t devnum;
	int fd, ret;

	ret = disk_devnum(dev, &devnum);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/dev/%s", name ? name + 1 : dev);
	if (!stat(path, &st) && S_ISBLK(st.st_mode) && st.st_rdev == devnum) {
		fd = open(path, flags | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}

	snprintf(path, sizeof(path), "/dev/diskseq-%d-%ld", getpid(),
		 syscall(__NR_gettid));
	if (mknod(path, S_IFBLK | 0600, devnum))
		return -errno;
	fd = open(path, flags | O_CLOEXEC);
	ret = fd < 0 ? -errno : fd;
	unlink(path);
	return ret;
}

/*
 * Until a request is under way. -EALREADY: @done was set before, by the thread
 * that was to make one.
 */
static inline int disk_wait_for_inflight(const char *disk, const bool *done)
{
	long long deadline = now_ms() + PATIENCE_MS;
	char path[128], buf[64];

	disk_path(path, disk, "inflight");
	while (now_ms() < deadline) {
		if (done && flag_is_set(done))
			return -EALREADY;
		if (read_text(path, buf, sizeof(buf)))
			return -EIO;
		/* reads, and then writes */
		if (atoi(buf))
			return 0;
		nap();
	}
	return -ETIMEDOUT;
}

/* All disks of the machine; the caller frees. Returns how many. */
static inline int list_disks(char (**names)[64])
{
	char (*list)[64] = NULL, (*mem)[64];
	struct dirent *entry;
	int nr = 0;
	DIR *dir;

	*names = NULL;
	dir = opendir("/sys/block");
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		mem = realloc(list, (nr + 1) * sizeof(*list));
		if (!mem) {
			free(list);
			closedir(dir);
			return -ENOMEM;
		}
		list = mem;
		snprintf(list[nr++], sizeof(*list), "%.63s", entry->d_name);
	}
	closedir(dir);
	*names = list;
	return nr;
}

#endif /* __DISKSEQ_DISK_H */
