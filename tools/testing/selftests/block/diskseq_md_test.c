// SPDX-License-Identifier: GPL-2.0
/*
 * An md array gets a new sequence number when it is started and when it is
 * stopped. It says so in uevents then, and draws none when it is opened. What is
 * read of it then is not what is cached of the array before.
 */
#define _GNU_SOURCE
#include <linux/major.h>
#include <linux/raid/md_p.h>
#include <linux/raid/md_u.h>

#include "../kselftest_harness.h"
#include "diskseq.h"

#define IMAGE_SIZE	0x100000
#define NR_MEMBERS	2
#define MD_MINOR	213	/* nobody else is using it */
#define MD_NAME		"md213"

FIXTURE(md)
{
	const char *reason;
	struct uevent_log log;
	struct loop member[NR_MEMBERS];
	int image[NR_MEMBERS];
	int nl;
	int fd;
};

/* The node makes the array when it is opened. */
static int md_open(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/diskseq-md-%d", getpid());
	if (mknod(path, S_IFBLK | 0600, makedev(MD_MAJOR, MD_MINOR)))
		return -errno;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	unlink(path);
	return fd;
}

/* After a stop the members are taken out of sysfs by a work item. */
static int wait_until_left(const struct loop *member)
{
	long long deadline = now_ms() + PATIENCE_MS;
	char path[80];

	snprintf(path, sizeof(path), "/sys/block/" MD_NAME "/md/dev-%s", member->name);
	while (!access(path, F_OK)) {
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		nap();
	}
	return 0;
}

/* RAID0 without a superblock: nothing is written, nobody assembles it. */
static int md_start(int fd, const struct loop *member)
{
	mdu_array_info_t array = {
		.level = 0,
		.nr_disks = NR_MEMBERS,
		.raid_disks = NR_MEMBERS,
		.md_minor = MD_MINOR,
		.not_persistent = 1,
		.chunk_size = 65536,
	};
	struct stat st;
	int i, ret;

	if (ioctl(fd, SET_ARRAY_INFO, &array))
		return -errno;
	for (i = 0; i < NR_MEMBERS; i++) {
		mdu_disk_info_t disk = {
			.number = i,
			.raid_disk = i,
			.state = (1 << MD_DISK_ACTIVE) | (1 << MD_DISK_SYNC),
		};

		if (fstat(member[i].fd, &st))
			return -errno;
		ret = wait_until_left(&member[i]);
		if (ret)
			return ret;
		disk.major = major(st.st_rdev);
		disk.minor = minor(st.st_rdev);
		if (ioctl(fd, ADD_NEW_DISK, &disk))
			return -errno;
	}
	if (ioctl(fd, RUN_ARRAY, NULL))
		return errno == EINVAL ? -ENODEV : -errno;	/* no raid0 */
	return 0;
}

/* udev may have it open for a moment. */
static int md_stop(int fd)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (ioctl(fd, STOP_ARRAY, NULL)) {
		if (errno != EBUSY || now_ms() > deadline)
			return -errno;
		nap();
	}
	return 0;
}

static void md_remove(const char *name)
{
	int fd = md_open();

	if (fd < 0)
		return;
	md_stop(fd);
	close(fd);
}

FIXTURE_SETUP(md)
{
	__u64 seq;
	int i;

	memset(self, 0, sizeof(*self));
	self->nl = -1;
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
	self->fd = md_open();
	if (self->fd < 0) {
		self->reason = "needs the md driver";
		return;
	}
	ASSERT_EQ(0, leftover_expect(MD_NAME, md_remove));
	ASSERT_EQ(0, diskseq_ioctl(self->fd, &seq));
	self->nl = uevent_open();
	ASSERT_LE(0, self->nl);
	for (i = 0; i < NR_MEMBERS; i++) {
		self->image[i] = backing_file(IMAGE_SIZE, false);
		ASSERT_LE(0, self->image[i]);
		ASSERT_EQ(0, loop_create(&self->member[i]));
		ASSERT_EQ(0, loop_configure(self->member[i].fd, self->image[i], 0));
	}
	ASSERT_EQ(0, uevent_fence(self->nl, self->member[0].name, &self->log));
	self->log.nr = 0;
}

FIXTURE_TEARDOWN(md)
{
	int i;

	if (self->fd >= 0) {
		md_stop(self->fd);
		close(self->fd);
		leftover_gone(MD_NAME);
	}
	for (i = 0; i < NR_MEMBERS; i++) {
		if (self->member[i].nr >= 0)
			EXPECT_EQ(0, loop_destroy(&self->member[i]));
		if (self->image[i] >= 0)
			close(self->image[i]);
	}
	if (self->nl >= 0)
		close(self->nl);
	free(self->log.ev);
}

/*
 * The array has been given another number than @old since the last call, and
 * has announced it in both ways. The fence is on one of the members, for the
 * array may be gone.
 */
static __u64 check_announced(struct __test_metadata *_metadata,
			     int fd, int nl, const struct loop *member,
			     struct uevent_log *log, __u64 old)
{
	unsigned int media = 0, plain = 0;
	__u64 seq = 0, last = 0;
	size_t i;

	EXPECT_EQ(0, diskseq_ioctl(fd, &seq));
	EXPECT_LT(old, seq);
	EXPECT_EQ(0, uevent_fence(nl, member->name, log));
	for (i = 0; i < log->nr; i++) {
		const struct uevent *ev = &log->ev[i];

		if (!uevent_is_own(ev, MD_NAME) || ev->partition)
			continue;
		last = ev->diskseq;
		if (ev->media_change)
			media++;
		else if (uevent_is_plain_change(ev) && ev->diskseq == seq)
			plain++;
	}
	log->nr = 0;
	EXPECT_EQ(1, media);
	EXPECT_LT(0, plain);
	EXPECT_EQ(seq, last);
	return seq;
}

TEST_F(md, start_and_stop_are_announced_and_opens_draw_nothing)
{
	__u64 old, seq, again;
	int i, fd, ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->fd, &old));
	ret = md_start(self->fd, self->member);
	if (ret == -ENODEV)
		SKIP(return, "needs raid0");
	ASSERT_EQ(0, ret);
	seq = check_announced(_metadata, self->fd, self->nl, &self->member[0],
			      &self->log, old);

	for (i = 0; i < 3; i++) {
		fd = open_disk(MD_NAME, O_RDONLY);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, diskseq_ioctl(fd, &again));
		EXPECT_EQ(seq, again);
		close(fd);
	}
	EXPECT_EQ(0, diskseq_sysfs(MD_NAME, &again));
	EXPECT_EQ(seq, again);

	ASSERT_EQ(0, md_stop(self->fd));
	check_announced(_metadata, self->fd, self->nl, &self->member[0],
			&self->log, seq);
}

static int label_members(const int *image, char label)
{
	int i;

	for (i = 0; i < NR_MEMBERS; i++)
		if (pwrite(image[i], &label, 1, 0) != 1)
			return -EIO;
	return 0;
}

/* What is read first of the array, or 0 */
static char label(int fd)
{
	char label;

	return pread(fd, &label, 1, 0) == 1 ? label : 0;
}

/* By whoever has kept the array open, as the one who stops it may. */
TEST_F(md, what_is_read_of_an_array_is_not_of_the_one_before)
{
	char *map;
	int ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, label_members(self->image, 'a'));
	ret = md_start(self->fd, self->member);
	if (ret == -ENODEV)
		SKIP(return, "needs raid0");
	ASSERT_EQ(0, ret);
	EXPECT_EQ('a', label(self->fd));
	map = mmap(NULL, 1, PROT_READ, MAP_SHARED, self->fd, 0);
	ASSERT_TRUE(map != MAP_FAILED);
	EXPECT_EQ('a', __atomic_load_n(map, __ATOMIC_RELAXED));

	ASSERT_EQ(0, md_stop(self->fd));
	EXPECT_EQ(0, label(self->fd));
	ASSERT_EQ(0, label_members(self->image, 'b'));
	ASSERT_EQ(0, md_start(self->fd, self->member));
	EXPECT_EQ('b', label(self->fd));
	EXPECT_EQ('b', __atomic_load_n(map, __ATOMIC_RELAXED));
	EXPECT_EQ(0, md_stop(self->fd));
	munmap(map, 1);
}

TEST_HARNESS_MAIN
