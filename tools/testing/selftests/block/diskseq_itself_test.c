// SPDX-License-Identifier: GPL-2.0
/*
 * A loop device is not given itself as its file: not the device, not one of its
 * partitions, and no loop device that lies on one of these. It would wait for
 * itself without end, so the calls that may hang are made by child processes,
 * with a time limit.
 *
 * To be run last: where it hangs it holds a lock of all loop devices.
 */
#define _GNU_SOURCE
#include "diskseq.h"
#include "diskseq_partition.h"
#include "diskseq_target.h"

#define IMAGE_SIZE	(1024 * 1024)
#define ANSWER_MS	(PATIENCE_MS / 4)

enum file { OWN_PARTITION, OVER_DISK, OVER_PARTITION, PARTITION_OVER_DISK, TWICE_OVER };

FIXTURE(itself)
{
	const char *reason;
	struct target t;
	struct loop over[2];
	pid_t reader;
	bool hangs;
};

FIXTURE_VARIANT(itself)
{
	enum file file;
	bool attach;		/* not LOOP_CHANGE_FD */
};

FIXTURE_VARIANT_ADD(itself, change_fd_to_own_partition)
{
	.file = OWN_PARTITION,
};

FIXTURE_VARIANT_ADD(itself, change_fd_to_loop_on_disk)
{
	.file = OVER_DISK,
};

FIXTURE_VARIANT_ADD(itself, change_fd_to_loop_on_partition)
{
	.file = OVER_PARTITION,
};

FIXTURE_VARIANT_ADD(itself, change_fd_to_partition_of_loop_on_disk)
{
	.file = PARTITION_OVER_DISK,
};

FIXTURE_VARIANT_ADD(itself, change_fd_to_loop_on_loop_on_partition)
{
	.file = TWICE_OVER,
};

FIXTURE_VARIANT_ADD(itself, attach_to_own_partition)
{
	.file = OWN_PARTITION,
	.attach = true,
};

FIXTURE_VARIANT_ADD(itself, attach_to_loop_on_partition)
{
	.file = OVER_PARTITION,
	.attach = true,
};

FIXTURE_SETUP(itself)
{
	struct target *t = &self->t;
	int i;

	self->hangs = false;
	for (i = 0; i < 2; i++) {
		self->over[i].nr = -1;
		self->over[i].fd = -1;
	}
	self->reason = target_init(t);
	if (self->reason)
		return;
	t->image = backing_file(IMAGE_SIZE, false);
	ASSERT_LE(0, t->image);
	ASSERT_EQ(0, target_create(t));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, loop_create(&self->over[i]));
}

/* It is not touched again: a program that does hangs as well. */
static void abandon(struct loop *lo)
{
	if (lo->nr >= 0)
		loop_mark(lo->nr, false);
	lo->nr = -1;
}

FIXTURE_TEARDOWN(itself)
{
	int i;

	if (self->hangs) {
		for (i = 0; i < 2; i++)
			abandon(&self->over[i]);
		abandon(&self->t.lo);
		/* it holds a lock of all of them */
		loop_devices->unusable = "a loop device hangs since an earlier case";
	}
	for (i = 1; i >= 0; i--)
		if (self->over[i].nr >= 0)
			EXPECT_EQ(0, loop_destroy(&self->over[i]));
	if (!self->hangs)
		EXPECT_EQ(0, target_destroy(&self->t));
}

/*
 * Returns the status of the process, or -ETIMEDOUT if it hangs; it is not
 * waited for then.
 */
static int wait_for_answer(pid_t pid)
{
	int ret = wait_for_exit(pid, ANSWER_MS);

	if (ret == -ETIMEDOUT)
		kill(pid, SIGKILL);
	return ret;
}

static int add_whole_partition(int fd)
{
	return partition_ioctl(fd, BLKPG_ADD_PARTITION, 1, 0, IMAGE_SIZE);
}

static int open_first_partition(const char *disk)
{
	return open_partition(disk, 1, O_RDONLY);
}

/* A descriptor of the file that the device is to be given */
static int file_on_itself(struct loop *lo, struct loop *over, enum file file)
{
	int below, ret;

	switch (file) {
	case OWN_PARTITION:
		return open_first_partition(lo->name);
	case OVER_DISK:
	case PARTITION_OVER_DISK:
		below = dup(lo->fd);
		break;
	default:
		below = open_first_partition(lo->name);
		break;
	}
	if (below < 0)
		return below;
	ret = loop_configure(over[0].fd, below, LO_FLAGS_READ_ONLY);
	close(below);
	if (!ret && file == PARTITION_OVER_DISK)
		ret = add_whole_partition(over[0].fd);
	if (!ret && file == TWICE_OVER)
		ret = loop_configure(over[1].fd, over[0].fd, LO_FLAGS_READ_ONLY);
	if (ret)
		return ret;
	if (file == PARTITION_OVER_DISK)
		return open_first_partition(over[0].name);
	return dup(over[file == TWICE_OVER].fd);
}

/* Reads the file that the device is to be given, so that there is I/O to wait for. */
static pid_t start_reader(int fd)
{
	char page[PAGE];
	pid_t pid = fork();
	off_t at;

	if (pid)
		return pid;
	for (at = 0;; at = (at + sizeof(page)) % IMAGE_SIZE) {
		if (!at)
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		if (pread(fd, page, sizeof(page), at) < 0)
			nap();
	}
}

TEST_F_TIMEOUT(itself, is_refused_as_its_file, 120)
{
	struct watch *t = &self->t.w;
	struct loop *lo = &self->t.lo;
	int ret, file, fd;
	pid_t pid;
	__u64 old;

	SKIP_IF(return, self->reason);

	if (!variant->attach)
		ASSERT_EQ(0, loop_configure(lo->fd, self->t.image,
					    LO_FLAGS_READ_ONLY));
	if (variant->file != OVER_DISK && variant->file != PARTITION_OVER_DISK) {
		ret = add_whole_partition(lo->fd);
		if (variant->attach && ret == -EINVAL)
			SKIP(return, "this kernel adds no partition to an empty disk");
		ASSERT_EQ(0, ret);
	}
	file = file_on_itself(lo, self->over, variant->file);
	/* nor may another device be given one that has no file */
	if (variant->attach && file == -EINVAL)
		return;
	ASSERT_LE(0, file);
	ASSERT_EQ(0, watch_settle(t));
	old = watch_number(t);
	self->reader = start_reader(file);
	ASSERT_LT(0, self->reader);

	pid = fork();
	if (!pid) {
		if (variant->attach)
			ret = -loop_configure(lo->fd, file, 0);
		else
			ret = ioctl(lo->fd, LOOP_CHANGE_FD, file) ? errno : 0;
		_exit(ret);
	}
	ret = wait_for_answer(pid);
	/* a partition that is open keeps files from being attached at all */
	EXPECT_TRUE(ret == EBADF || (variant->attach && ret == EBUSY)) {
		TH_LOG("%s", ret == -ETIMEDOUT ? "it hangs" : strerror(ret));
	}
	self->hangs = ret != EBADF && ret != EBUSY;

	/* and afterwards it can be opened and read */
	pid = fork();
	if (!pid) {
		char page[PAGE];

		fd = open_disk(lo->name, O_RDONLY);
		_exit(fd < 0 || pread(fd, page, sizeof(page), 0) < 0);
	}
	ret = wait_for_answer(pid);
	EXPECT_EQ(0, ret) {
		TH_LOG("an opener of the device %s",
		       ret == -ETIMEDOUT ? "hangs" : "fails");
	}
	self->hangs |= ret != 0;
	kill(self->reader, SIGKILL);
	ret = wait_for_answer(self->reader);
	EXPECT_NE(-ETIMEDOUT, ret) {
		TH_LOG("the reader hangs");
	}
	self->hangs |= ret == -ETIMEDOUT;
	if (self->hangs)
		return;
	check_nothing(_metadata, t, old, false);
	close(file);
}

TEST_HARNESS_MAIN
