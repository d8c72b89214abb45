// SPDX-License-Identifier: GPL-2.0
/*
 * The example of waiting for an event, diskseq_wait.c: each of its steps, with the
 * events that it has to tell apart and with those that it never gets.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>

#include "diskseq.h"
#include "diskseq_skip.h"

/* A kernel that has no number */
static bool without_number;

static int older_ioctl(int fd, unsigned long cmd, void *arg)
{
	errno = ENOTTY;
	if (without_number && cmd == BLKGETDISKSEQ)
		return -1;
	return ioctl(fd, cmd, arg);
}

#define ioctl(fd, cmd, arg)	older_ioctl(fd, cmd, (void *)(arg))
#define DISKSEQ_WAIT_NO_MAIN
#include "diskseq_wait.c"
#undef ioctl

#define IMAGE_SIZE	(128 * 1024)

FIXTURE(wait)
{
	const char *reason;
	struct wait_source src;
	struct wait_event ev;
	struct uevent_log log;
	struct loop lo, other;
	char partition[32];
	int image;
	int nl;
};

/* The example opens by name. */
static const char *wait_unusable(void)
{
	const char *reason = loop_unusable();
	struct loop lo;
	char path[64];

	if (reason)
		return reason;
	if (loop_create(&lo))
		return "can't make a loop device";
	snprintf(path, sizeof(path), "/dev/%s", lo.name);
	if (access(path, F_OK))
		reason = "needs device nodes in /dev";
	loop_destroy(&lo);
	return reason;
}

FIXTURE_SETUP(wait)
{
	memset(self, 0, sizeof(*self));
	self->reason = wait_unusable();
	self->lo.nr = -1;
	self->other.nr = -1;
	self->src.fd = -1;
	self->image = -1;
	self->nl = -1;
	if (self->reason)
		return;
	/* a kernel that announces nothing would keep the example waiting for good */
	alarm(PATIENCE_MS / 1000);
	self->nl = uevent_open();
	ASSERT_LE(0, self->nl);
	self->image = backing_file(IMAGE_SIZE, true);
	ASSERT_LE(0, self->image);
	ASSERT_EQ(0, loop_create(&self->lo));
	ASSERT_EQ(0, loop_create(&self->other));
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	self->log.nr = 0;
	ASSERT_EQ(0, wait_subscribe(&self->src));
	snprintf(self->partition, sizeof(self->partition), "%sp2", self->lo.name);
	self->ev.disk = self->lo.name;
	self->ev.devname = self->lo.name;
	self->ev.action = "change";
}

FIXTURE_TEARDOWN(wait)
{
	if (self->lo.nr >= 0)
		EXPECT_EQ(0, loop_destroy(&self->lo));
	if (self->other.nr >= 0)
		EXPECT_EQ(0, loop_destroy(&self->other));
	if (self->image >= 0)
		close(self->image);
	if (self->src.fd >= 0)
		close(self->src.fd);
	if (self->nl >= 0)
		close(self->nl);
	free(self->log.ev);
}

/* The event that the example takes for its own, as another listener has it */
static const struct uevent *taken(const struct uevent_log *log,
				  const struct wait_event *ev)
{
	size_t i;

	for (i = 0; i < log->nr; i++)
		if (log->ev[i].seqnum == ev->seqnum)
			return &log->ev[i];
	return NULL;
}

/* Leaves the listener with a full buffer. */
static int overflow(int fd, const char *disk)
{
	int size = 1, i, ret = 0;
	char uuid[40];

	/* the kernel makes it as small as it can be */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)))
		return -errno;
	uevent_name(uuid);
	for (i = 0; !ret && i < 32; i++)
		ret = uevent_trigger(disk, uuid);
	return ret;
}

TEST_F(wait, takes_no_event_of_others_for_its_own)
{
	const struct uevent *ev;

	SKIP_IF(return, self->reason);

	/* of another disk, and of another medium of the same disk */
	ASSERT_EQ(0, loop_configure(self->other.fd, self->image, 0));
	ASSERT_EQ(0, loop_configure(self->lo.fd, self->image, 0));
	ASSERT_EQ(0, loop_detach(self->lo.fd));
	ASSERT_EQ(0, wait_attach(self->lo.fd, self->image, 0,
				 &self->ev.diskseq));
	ASSERT_EQ(0, loop_detach(self->other.fd));

	ASSERT_EQ(WAIT_CAME, wait_for(&self->src, &self->ev));
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	ev = taken(&self->log, &self->ev);
	ASSERT_NE(NULL, ev);
	EXPECT_STREQ(self->lo.name, ev->devname);
	EXPECT_EQ(self->ev.diskseq, ev->diskseq);
}

TEST_F(wait, finds_the_event_of_a_partition)
{
	const struct uevent *ev;
	struct loop_info64 info;
	int fd;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(self->lo.fd, self->image,
				    LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, loop_detach(self->lo.fd));
	ASSERT_EQ(0, wait_attach(self->lo.fd, self->image, 0,
				 &self->ev.diskseq));
	/* another disk with a greater number, before there are partitions */
	ASSERT_EQ(0, loop_configure(self->other.fd, self->image, 0));
	ASSERT_EQ(0, loop_status(self->lo.fd, &info));
	info.lo_flags |= LO_FLAGS_PARTSCAN;
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_SET_STATUS64, &info));
	self->ev.devname = self->partition;
	self->ev.action = "add";

	ASSERT_EQ(WAIT_CAME, wait_for(&self->src, &self->ev));
	fd = wait_open(self->partition, self->ev.diskseq, O_RDONLY);
	EXPECT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	ev = taken(&self->log, &self->ev);
	ASSERT_NE(NULL, ev);
	EXPECT_STREQ(self->partition, ev->devname);
	EXPECT_TRUE(uevent_is_add(ev));
	EXPECT_EQ(self->ev.diskseq, ev->diskseq);
}

TEST_F(wait, finds_the_action_that_it_waits_for)
{
	const struct uevent *ev;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, wait_attach(self->lo.fd, self->image, LO_FLAGS_PARTSCAN,
				 &self->ev.diskseq));
	ASSERT_EQ(0, loop_detach(self->lo.fd));
	self->ev.devname = self->partition;
	self->ev.action = "remove";

	ASSERT_EQ(WAIT_CAME, wait_for(&self->src, &self->ev));
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	ev = taken(&self->log, &self->ev);
	ASSERT_NE(NULL, ev);
	EXPECT_TRUE(uevent_is_remove(ev));
}

/* The event that is waited for never comes. */
TEST_F(wait, gives_up_at_a_greater_number)
{
	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, wait_attach(self->lo.fd, self->image, 0,
				 &self->ev.diskseq));
	ASSERT_EQ(0, loop_detach(self->lo.fd));
	self->ev.devname = self->partition;
	self->ev.action = "add";
	EXPECT_EQ(WAIT_GONE, wait_for(&self->src, &self->ev));
}

/* They were lost before there was anything to wait for. */
TEST_F(wait, asks_when_events_were_lost)
{
	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, overflow(self->src.fd, self->other.name));
	ASSERT_EQ(0, wait_attach(self->lo.fd, self->image, 0,
				 &self->ev.diskseq));
	EXPECT_EQ(WAIT_MISSED, wait_for(&self->src, &self->ev));
	/* and that is over then */
	EXPECT_FALSE(self->src.lost);
	ASSERT_EQ(0, loop_detach(self->lo.fd));
	EXPECT_EQ(WAIT_GONE, wait_for(&self->src, &self->ev));
}

TEST_F(wait, asks_and_learns_that_the_disk_is_another)
{
	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, wait_attach(self->lo.fd, self->image, 0,
				 &self->ev.diskseq));
	self->ev.devname = self->partition;
	self->ev.action = "add";
	ASSERT_EQ(0, overflow(self->src.fd, self->other.name));
	ASSERT_EQ(0, loop_detach(self->lo.fd));
	ASSERT_EQ(0, loop_configure(self->lo.fd, self->image, 0));
	EXPECT_EQ(WAIT_GONE, wait_for(&self->src, &self->ev));
}

/* A forged event (root may send one) with another number of the disk */
static int forge(const char *disk, __u64 seq)
{
	struct sockaddr_nl group = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	char buf[512];
	int fd, i, len, ret = 0;

	len = snprintf(buf, sizeof(buf),
		       "change@/devices/virtual/block/%s\n"
		       "ACTION=change\n"
		       "DEVPATH=/devices/virtual/block/%s\n"
		       "SUBSYSTEM=block\n"
		       "DEVNAME=%s\n"
		       "DISKSEQ=%llu\n",
		       disk, disk, disk, (unsigned long long)seq);
	for (i = 0; i < len; i++)
		if (buf[i] == '\n')
			buf[i] = '\0';
	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC,
		    NETLINK_KOBJECT_UEVENT);
	if (fd < 0)
		return -errno;
	if (sendto(fd, buf, len, 0, (struct sockaddr *)&group,
		   sizeof(group)) != len)
		ret = -errno;
	close(fd);
	return ret;
}

TEST_F(wait, believes_the_kernel_only)
{
	const struct uevent *ev;
	__u64 seq = 0;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_sysfs(self->lo.name, &seq));
	ASSERT_EQ(0, forge(self->lo.name, seq + 1000));
	ASSERT_EQ(0, wait_attach(self->lo.fd, self->image, 0,
				 &self->ev.diskseq));
	ASSERT_EQ(WAIT_CAME, wait_for(&self->src, &self->ev));
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	ev = taken(&self->log, &self->ev);
	ASSERT_NE(NULL, ev);
	EXPECT_EQ(self->ev.diskseq, ev->diskseq);
}

TEST_F(wait, opens_no_other_disk_by_the_name)
{
	int fd;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, wait_attach(self->lo.fd, self->image, LO_FLAGS_PARTSCAN,
				 &self->ev.diskseq));
	fd = wait_open(self->partition, self->ev.diskseq, O_RDONLY);
	ASSERT_LE(0, fd);
	close(fd);

	ASSERT_EQ(0, loop_detach(self->lo.fd));
	ASSERT_EQ(0, loop_configure(self->lo.fd, self->image,
				    LO_FLAGS_PARTSCAN));
	fd = wait_open(self->partition, self->ev.diskseq, O_RDONLY);
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(ESTALE, errno);
}

TEST_F(wait, leaves_nothing_attached_where_there_is_no_number)
{
	SKIP_IF(return, self->reason);

	without_number = true;
	EXPECT_EQ(-1, wait_attach(self->lo.fd, self->image, 0,
				  &self->ev.diskseq));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_FALSE(loop_is_bound(self->lo.fd));
}

/* The program itself, which stands beside the tests */
static int run_program(int image, char *said, size_t size)
{
	int fds[2], status = -1;
	char file[32];
	ssize_t len;
	pid_t pid;

	if (pipe(fds))
		return -errno;
	pid = fork();
	if (!pid) {
		/* it waits as long as the test does */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* not closed at exec, as @image is */
		snprintf(file, sizeof(file), "/proc/self/fd/%d", dup(image));
		dup2(fds[1], STDOUT_FILENO);
		execl("./diskseq_wait", "diskseq_wait", file, "2", NULL);
		_exit(127);
	}
	close(fds[1]);
	len = read(fds[0], said, size - 1);
	said[len > 0 ? len : 0] = '\0';
	close(fds[0]);
	if (pid > 0)
		waitpid(pid, &status, 0);
	return status;
}

TEST_F(wait, program_says_which_disk_it_has_attached)
{
	unsigned long long number;
	struct loop lo;
	char said[128];
	__u64 seq = 0;
	int nr;

	SKIP_IF(return, self->reason);
	if (access("./diskseq_wait", X_OK))
		SKIP(return, "diskseq_wait is not here");

	/* it takes the first device that is free, be it one of these */
	loop_close(&self->lo);
	loop_close(&self->other);
	ASSERT_EQ(0, run_program(self->image, said, sizeof(said)));
	nr = sscanf(said, "loop%dp2 %llu", &lo.nr, &number);
	ASSERT_EQ(2, nr);
	snprintf(lo.name, sizeof(lo.name), "loop%d", lo.nr);
	ASSERT_EQ(0, loop_open(&lo, O_RDWR));
	EXPECT_EQ(0, diskseq_ioctl(lo.fd, &seq));
	EXPECT_EQ(0, loop_detach(lo.fd));
	EXPECT_EQ(seq, number);
	loop_close(&lo);
}

TEST_HARNESS_MAIN
