/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks of null_blk, by configfs.
 */
#ifndef __DISKSEQ_NULL_BLK_H
#define __DISKSEQ_NULL_BLK_H

#include <dirent.h>

#include "diskseq_cleanup.h"
#include "diskseq_disk.h"

#define NULL_BLK	"/sys/kernel/config/nullb"

static inline bool have_null_blk(void)
{
	if (access(NULL_BLK, F_OK)) {
		/* not mount(): <sys/mount.h> and <linux/fs.h> do not get along */
		syscall(__NR_mount, "configfs", "/sys/kernel/config",
			"configfs", 0UL, NULL);
		load_module("null_blk", "nr_devices=0");
	}
	return !access(NULL_BLK, F_OK);
}

/* An item of configfs is a disk once it is switched on. */
#define NULL_BLK_ITEM	NULL_BLK "/diskseq_"

static inline int null_blk_set(const char *item, const char *attr, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", item, attr);
	return write_text(path, value);
}

/* The disk is named by its item or by its index, which depends on the kernel. */
static inline int null_blk_name(const char *item, char name[static 64])
{
	char path[128], buf[32];
	int ret;

	snprintf(name, 64, "%s", strrchr(item, '/') + 1);
	disk_path(path, name, "");
	if (!access(path, F_OK))
		return 0;
	snprintf(path, sizeof(path), "%s/index", item);
	ret = read_text(path, buf, sizeof(buf));
	if (!ret)
		snprintf(name, 64, "nullb%d", atoi(buf));
	return ret;
}

/*
 * A disk that takes its time for each request: returns a descriptor, and
 * -EINVAL or -ENOENT if this null_blk cannot do that.
 */
#define NULL_BLK_SLOW	NULL_BLK_ITEM "slow"

static inline int null_blk_slow(const char *megabytes, const char *nsecs,
				bool memory_backed)
{
	const char *const settings[][2] = {
		{ "size", megabytes },
		{ "memory_backed", memory_backed ? "1" : "0" },
		{ "irqmode", "2" },
		{ "completion_nsec", nsecs },
		{ "power", "1" },
	};
	char name[64];
	size_t i;
	int ret;

	/* a test that failed has left it */
	rmdir(NULL_BLK_SLOW);
	if (mkdir(NULL_BLK_SLOW, 0755))
		return -errno;
	for (i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
		ret = null_blk_set(NULL_BLK_SLOW, settings[i][0], settings[i][1]);
		if (ret)
			return ret;
	}
	ret = null_blk_name(NULL_BLK_SLOW, name);
	return ret ? ret : open_disk(name, O_RDWR);
}

static inline void null_blk_remove(void)
{
	struct dirent *entry;
	char path[300];
	DIR *dir;

	dir = opendir(NULL_BLK);
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), NULL_BLK "/%s", entry->d_name);
		if (!strncmp(entry->d_name, "diskseq_", 8))
			rmdir(path);
	}
	if (dir)
		closedir(dir);
}

static __attribute__((constructor)) void null_blk_init(void)
{
	at_end(null_blk_remove);
}

#endif /* __DISKSEQ_NULL_BLK_H */
