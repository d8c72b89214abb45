// SPDX-License-Identifier: GPL-2.0
/*
 * Reading a disk's sequence number: the ioctl, sysfs and uevents agree, for the
 * disk and its partitions, for each user that may open it.
 *
 * Built twice where the compiler can: a 32-bit program on a 64-bit kernel must
 * see all of this too.
 */
#define _GNU_SOURCE
#include <grp.h>
#include <sys/resource.h>

#include "diskseq.h"
#include "diskseq_skip.h"

#define IMAGE_SIZE	(1024 * 1024)
#define NR_PARTITIONS	2

FIXTURE(read)
{
	const char *reason;
	struct uevent_log log;
	struct loop lo;
	char part[48];		/* below /sys/block */
	int nl;
	int backing;
	int part_fd;
};

FIXTURE_SETUP(read)
{
	self->nl = -1;
	self->backing = -1;
	self->part_fd = -1;
	self->lo.nr = -1;
	self->lo.fd = -1;
	self->reason = loop_unusable();
	if (self->reason)
		return;

	self->nl = uevent_open();
	ASSERT_LE(0, self->nl);
	ASSERT_EQ(0, loop_create(&self->lo));
	self->backing = backing_file(IMAGE_SIZE, true);
	ASSERT_LE(0, self->backing);
	ASSERT_EQ(0, loop_configure(self->lo.fd, self->backing,
				    LO_FLAGS_PARTSCAN));
	snprintf(self->part, sizeof(self->part), "%s/%sp1", self->lo.name,
		 self->lo.name);
	self->part_fd = open_disk(self->part, O_RDONLY);
	ASSERT_LE(0, self->part_fd) {
		TH_LOG("no partition %s: %s", self->part,
		       strerror(-self->part_fd));
	}
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
}

FIXTURE_TEARDOWN(read)
{
	if (self->part_fd >= 0)
		close(self->part_fd);
	if (self->lo.nr >= 0)
		EXPECT_EQ(0, loop_destroy(&self->lo));
	if (self->backing >= 0)
		close(self->backing);
	if (self->nl >= 0)
		close(self->nl);
	free(self->log.ev);
}

TEST_F(read, ioctl_sysfs_and_last_uevent_agree)
{
	__u64 by_ioctl, by_sysfs, by_uevent = 0;
	unsigned int nr = 0;
	size_t i;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &by_ioctl));
	ASSERT_EQ(0, diskseq_sysfs(self->lo.name, &by_sysfs));
	for (i = 0; i < self->log.nr; i++) {
		const struct uevent *ev = &self->log.ev[i];

		if (!uevent_is_own(ev, self->lo.name) || ev->partition)
			continue;
		by_uevent = ev->diskseq;
		nr++;
	}
	EXPECT_LT(0, nr);
	EXPECT_NE(0, by_ioctl);
	EXPECT_EQ(by_ioctl, by_sysfs);
	EXPECT_EQ(by_ioctl, by_uevent);
}

TEST_F(read, every_uevent_carries_the_number)
{
	unsigned int disk = 0, partition = 0;
	size_t i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < self->log.nr; i++) {
		const struct uevent *ev = &self->log.ev[i];

		if (!uevent_is_own(ev, self->lo.name))
			continue;
		EXPECT_NE(0, ev->diskseq) {
			TH_LOG("%s of %s has none", ev->action, ev->devname);
		}
		if (ev->partition)
			partition++;
		else
			disk++;
	}
	EXPECT_LT(0, disk);
	EXPECT_LE(NR_PARTITIONS, partition);
}

TEST_F(read, partition_gives_its_disks_number)
{
	__u64 disk, partition;
	unsigned int nr = 0;
	size_t i;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &disk));
	ASSERT_EQ(0, diskseq_ioctl(self->part_fd, &partition));
	EXPECT_EQ(disk, partition);

	for (i = 0; i < self->log.nr; i++) {
		const struct uevent *ev = &self->log.ev[i];

		if (!uevent_is_own(ev, self->lo.name) || !ev->partition ||
		    !uevent_is_add(ev))
			continue;
		EXPECT_EQ(disk, ev->diskseq);
		nr++;
	}
	EXPECT_LE(NR_PARTITIONS, nr);
}

TEST_F(read, uevent_file_shows_the_number)
{
	__u64 seq, disk = 0, partition = 0;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	EXPECT_EQ(0, diskseq_uevent_file(self->lo.name, &disk));
	EXPECT_EQ(seq, disk);
	EXPECT_EQ(0, diskseq_uevent_file(self->part, &partition));
	EXPECT_EQ(seq, partition);
}

TEST_F(read, all_disks_of_the_machine_agree)
{
	char (*disks)[64];
	unsigned int checked = 0;
	int i, nr;

	SKIP_IF(return, self->reason);

	nr = list_disks(&disks);
	ASSERT_LT(0, nr);
	for (i = 0; i < nr; i++) {
		__u64 before, by_ioctl = 0, by_file = 0, after = 0;
		int fd, ret;

		char path[128];

		ret = diskseq_sysfs(disks[i], &before);
		snprintf(path, sizeof(path), "/sys/block/%s", disks[i]);
		if (ret && access(path, F_OK))	/* gone by now */
			continue;
		EXPECT_EQ(0, ret) {
			TH_LOG("%s: %s", disks[i], strerror(-ret));
		}
		EXPECT_NE(0, before);
		fd = open_disk(disks[i], O_RDONLY | O_NONBLOCK);
		if (fd < 0)	/* no medium */
			continue;
		EXPECT_EQ(0, diskseq_ioctl(fd, &by_ioctl)) {
			TH_LOG("%s", disks[i]);
		}
		EXPECT_EQ(0, diskseq_uevent_file(disks[i], &by_file));
		/* to open is to check for a new medium */
		EXPECT_EQ(0, diskseq_sysfs(disks[i], &after));
		EXPECT_LE(before, by_ioctl);
		EXPECT_LE(by_ioctl, by_file);
		EXPECT_LE(by_file, after);
		close(fd);
		checked++;
	}
	EXPECT_LT(0, checked);
	free(disks);
}

TEST_F(read, every_open_mode_may_read)
{
	static const int modes[] = {
		O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_NONBLOCK,
		O_RDONLY | O_DIRECT,
	};
	__u64 seq, other = 0;
	size_t i;
	int fd;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		fd = open_disk(self->lo.name, modes[i]);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0, diskseq_ioctl(fd, &other));
		EXPECT_EQ(seq, other);
		close(fd);
	}
}

TEST_F(read, ioctl_writes_64_bits_and_no_more)
{
	const __u64 guard = 0xa5a5a5a5a5a5a5a5ULL;
	__u64 val[3] = { guard, guard, guard };
	__u64 seq;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_sysfs(self->lo.name, &seq));
	ASSERT_EQ(0, ioctl(self->lo.fd, BLKGETDISKSEQ, &val[1]));
	EXPECT_EQ(guard, val[0]);
	EXPECT_EQ(seq, val[1]);
	EXPECT_EQ(guard, val[2]);
}

static int ioctl_errno(int fd, void *arg)
{
	return ioctl(fd, BLKGETDISKSEQ, arg) ? errno : 0;
}

TEST_F(read, bad_pointer_gives_efault)
{
	long size = sysconf(_SC_PAGESIZE);
	int fds[2] = { self->lo.fd, self->part_fd };
	__u64 before, after;
	size_t i;
	char *mem;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &before));
	mem = mmap(NULL, 3 * size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(mem != MAP_FAILED);
	ASSERT_EQ(0, munmap(mem + size, size));
	ASSERT_EQ(0, mprotect(mem + 2 * size, size, PROT_READ));

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(EFAULT, ioctl_errno(fds[i], NULL));
		/* unmapped, half of it unmapped, read-only, the kernel's */
		EXPECT_EQ(EFAULT, ioctl_errno(fds[i], mem + size));
		EXPECT_EQ(EFAULT, ioctl_errno(fds[i], mem + size - 4));
		EXPECT_EQ(EFAULT, ioctl_errno(fds[i], mem + 2 * size));
		EXPECT_EQ(EFAULT, ioctl_errno(fds[i], (void *)-4096L));
		EXPECT_EQ(0, ioctl_errno(fds[i], mem));
	}
	munmap(mem, 3 * size);
	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &after));
	EXPECT_EQ(before, after);
}

TEST_F(read, other_descriptors_refuse_as_before)
{
	__u64 seq;
	int fd, fds[2];

	SKIP_IF(return, self->reason);

	EXPECT_EQ(-ENOTTY, diskseq_ioctl(self->backing, &seq));

	fd = open("/", O_RDONLY | O_DIRECTORY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-ENOTTY, diskseq_ioctl(fd, &seq));
	close(fd);

	fd = open("/dev/null", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-ENOTTY, diskseq_ioctl(fd, &seq));
	close(fd);

	ASSERT_EQ(0, pipe(fds));
	EXPECT_EQ(-ENOTTY, diskseq_ioctl(fds[0], &seq));
	EXPECT_EQ(-ENOTTY, diskseq_ioctl(fds[1], &seq));
	close(fds[0]);
	close(fds[1]);

	EXPECT_EQ(-EBADF, diskseq_ioctl(-1, &seq));
	EXPECT_EQ(-EBADF, diskseq_ioctl(fds[0], &seq));

	/* the disk, but never opened */
	fd = open_disk(self->lo.name, O_PATH);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBADF, diskseq_ioctl(fd, &seq));
	close(fd);
}

TEST_F(read, tty_refuses_as_before)
{
	static const char * const ttys[] = {
		"/dev/ptmx", "/dev/tty0", "/dev/ttyS0", "/dev/console",
	};
	__u64 seq;
	size_t i;
	int fd = -1;

	SKIP_IF(return, self->reason);

	for (i = 0; fd < 0 && i < ARRAY_SIZE(ttys); i++)
		fd = open(ttys[i], O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		SKIP(return, "needs a tty");
	EXPECT_EQ(-ENOTTY, diskseq_ioctl(fd, &seq));
	close(fd);
}

TEST_F(read, reading_changes_nothing)
{
	__u64 before, seq = 0;
	size_t i, mark = self->log.nr;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &before));
	for (i = 0; i < 1000; i++) {
		ASSERT_EQ(0, diskseq_ioctl(i & 1 ? self->lo.fd : self->part_fd,
					   &seq));
		ASSERT_EQ(before, seq);
		ASSERT_EQ(0, diskseq_sysfs(self->lo.name, &seq));
		ASSERT_EQ(before, seq);
	}
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	for (i = mark; i < self->log.nr; i++)
		EXPECT_FALSE(uevent_is_own(&self->log.ev[i], self->lo.name));
}

#define NOBODY	65534

static int become_nobody(void)
{
	return setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	       setresuid(NOBODY, NOBODY, NOBODY) ? -errno : 0;
}

TEST_F(read, any_opener_may_read)
{
	char path[64];
	dev_t devnum = 0;
	__u64 seq;
	int status;
	pid_t pid;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	/* a node of our own: udev has its opinion on the other's mode */
	ASSERT_EQ(0, disk_devnum(self->lo.name, &devnum));
	snprintf(path, sizeof(path), "/dev/diskseq-test-%d", getpid());
	unlink(path);
	ASSERT_EQ(0, mknod(path, S_IFBLK | 0444, devnum));
	ASSERT_EQ(0, chmod(path, 0444));

	pid = fork();
	if (!pid) {
		__u64 val = 0;
		int fd;

		if (become_nobody())
			_exit(1);
		/* opened by root before */
		if (diskseq_ioctl(self->lo.fd, &val) || val != seq)
			_exit(2);
		if (diskseq_ioctl(self->part_fd, &val) || val != seq)
			_exit(3);
		/* not opened by any program */
		fd = open(path, O_RDONLY);
		if (fd < 0)
			_exit(4);
		if (diskseq_ioctl(fd, &val) || val != seq)
			_exit(5);
		if (diskseq_sysfs(self->lo.name, &val) || val != seq)
			_exit(6);
		_exit(0);
	}
	ASSERT_LT(0, pid);
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	unlink(path);
	ASSERT_TRUE(WIFEXITED(status));
	if (WEXITSTATUS(status) == 1)
		SKIP(return, "needs users (CONFIG_MULTIUSER)");
	EXPECT_EQ(0, WEXITSTATUS(status));
}

TEST_HARNESS_MAIN
