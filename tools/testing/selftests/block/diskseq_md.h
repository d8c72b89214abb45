/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An md array of two loop devices, and the fixture of its tests.
 */
#ifndef __DISKSEQ_MD_H
#define __DISKSEQ_MD_H

#include <linux/major.h>
#include <linux/raid/md_p.h>
#include <linux/raid/md_u.h>

#include "diskseq.h"
#include "diskseq_watch.h"

#define IMAGE_SIZE	0x100000
#define NR_MEMBERS	2

FIXTURE(md)
{
	const char *reason;
	struct watch w;
	struct loop member[NR_MEMBERS];
	int image[NR_MEMBERS];
	int fd;
};

/*
 * If an array cannot be stopped, the next case uses the next array number. A program
 * defines MD_FIRST, its first number, before it includes this file, so that programs
 * do not share arrays.
 */
static int *md_stuck;
static char md_name[16];

static __attribute__((constructor)) void md_init(void)
{
	md_stuck = shared_memory(sizeof(*md_stuck));
}

/* The node makes the array when it is opened. */
static inline int md_open(const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/diskseq-md-%d", getpid());
	if (mknod(path, S_IFBLK | 0600, makedev(MD_MAJOR, atoi(name + 2))))
		return -errno;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	unlink(path);
	return fd;
}

/*
 * After a stop a work item takes the members out of sysfs. Until it has, they
 * can't be members again, with these patches or without.
 */
static inline int md_add(int fd, const mdu_disk_info_t *disk)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (ioctl(fd, ADD_NEW_DISK, disk)) {
		if (errno != EEXIST || now_ms() > deadline)
			return -errno;
		nap();
	}
	return 0;
}

/* RAID0 without a superblock: nothing is written, no program assembles it. */
static inline int md_assemble(int fd, const struct loop *member, int nr)
{
	mdu_array_info_t array = {
		.level = 0,
		.nr_disks = nr,
		.raid_disks = nr,
		.md_minor = atoi(md_name + 2),
		.not_persistent = 1,
		.chunk_size = 65536,
	};
	struct stat st;
	int i, ret;

	if (ioctl(fd, SET_ARRAY_INFO, &array))
		return -errno;
	for (i = 0; i < nr; i++) {
		mdu_disk_info_t disk = {
			.number = i,
			.raid_disk = i,
			.state = (1 << MD_DISK_ACTIVE) | (1 << MD_DISK_SYNC),
		};

		if (fstat(member[i].fd, &st))
			return -errno;
		disk.major = major(st.st_rdev);
		disk.minor = minor(st.st_rdev);
		ret = md_add(fd, &disk);
		if (ret)
			return ret;
	}
	return 0;
}

static inline int md_run(int fd)
{
	if (ioctl(fd, RUN_ARRAY, NULL))
		return errno == EINVAL ? -ENODEV : -errno;	/* no raid0 */
	return 0;
}

static inline int md_start_some(int fd, const struct loop *member, int nr)
{
	int ret = md_assemble(fd, member, nr);

	return ret ?: md_run(fd);
}

/* udev has it open for a moment after each start. */
static inline int md_stop(int fd)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int err;

	while (ioctl(fd, STOP_ARRAY, NULL)) {
		err = errno;
		if (err != EBUSY || now_ms() > deadline || !udev_is_running())
			return -err;
		nap();
	}
	return 0;
}

static inline void md_remove(const char *name)
{
	int fd = md_open(name);

	if (fd < 0)
		return;
	md_stop(fd);
	close(fd);
}

/* Returns when the array is deleted, as it is after the last close. */
static inline int md_close(struct watch *w, int *fd)
{
	struct uevent ev;

	close(*fd);
	*fd = -1;
	return watch_wait(w, uevent_is_remove, PATIENCE_MS, &ev);
}

/* Delete and make the array again, so that the next start is its first one. */
static inline int md_reopen(struct watch *w, int *fd)
{
	int ret = md_close(w, fd);

	if (ret)
		return ret;
	*fd = md_open(md_name);
	return *fd < 0 ? *fd : 0;
}

FIXTURE_SETUP(md)
{
	__u64 seq;
	int i;

	memset(self, 0, sizeof(*self));
	self->w.nl = -1;
	self->fd = -1;
	for (i = 0; i < NR_MEMBERS; i++) {
		self->image[i] = -1;
		self->member[i].nr = -1;
		self->member[i].fd = -1;
	}
	self->reason = loop_unusable();
	if (self->reason)
		return;
	load_module("raid0", NULL);
	snprintf(md_name, sizeof(md_name), "md%d", MD_FIRST + *md_stuck);
	self->fd = md_open(md_name);
	if (self->fd < 0) {
		self->reason = "needs the md driver";
		return;
	}
	ASSERT_EQ(0, leftover_expect(md_name, md_remove));
	ASSERT_EQ(0, diskseq_ioctl(self->fd, &seq));
	ASSERT_EQ(0, watch_open(&self->w, md_name));
	for (i = 0; i < NR_MEMBERS; i++) {
		self->image[i] = backing_file(IMAGE_SIZE, false);
		ASSERT_LE(0, self->image[i]);
		ASSERT_EQ(0, loop_create(&self->member[i]));
		ASSERT_EQ(0, loop_configure(self->member[i].fd, self->image[i], 0));
	}
	/* once it is stopped, the array may be gone, and not to be opened */
	self->w.fence = self->member[0].name;
	self->w.held = self->fd;
	ASSERT_EQ(0, watch_settle(&self->w));
}

FIXTURE_TEARDOWN(md)
{
	int i;

	if (self->fd >= 0) {
		if (md_stop(self->fd) == -EBUSY)
			++*md_stuck;
		close(self->fd);
		leftover_gone(md_name);
	}
	for (i = 0; i < NR_MEMBERS; i++) {
		if (self->member[i].nr >= 0)
			EXPECT_EQ(0, loop_destroy(&self->member[i]));
		if (self->image[i] >= 0)
			close(self->image[i]);
	}
	watch_close(&self->w);
}

#endif /* __DISKSEQ_MD_H */
