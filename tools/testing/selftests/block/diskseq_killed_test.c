// SPDX-License-Identifier: GPL-2.0
/*
 * A fatal signal while waiting for the lock of a loop device: the operation that
 * was to follow leaves number and events alone.
 *
 * The lock is held for long enough by one that changes a loop device with a read
 * in flight: it waits for the read, and the device below is a slow one.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>

#include "diskseq.h"
#include "diskseq_null_blk.h"
#include "diskseq_target.h"

#define IMAGE_SIZE	(1024 * 1024)
#define SLOW_NSEC	"250000000"
#define SLOW_SIZE	"16"		/* MiB */
#define FILE_SIZE	(16 << 20)
#define NR_ATTEMPTS	10

struct task {
	pthread_t thread;
	pid_t tid;
	int fd;
	unsigned int cmd;
	int backing;
	off_t offset;
	int ret;
	bool started;
	bool done;
};

static void task_started(struct task *task)
{
	task->tid = syscall(__NR_gettid);
	flag_set(&task->started);
}

static void *read_in_flight(void *arg)
{
	struct task *task = arg;
	void *buf;

	task_started(task);
	task->ret = posix_memalign(&buf, PAGE, PAGE);
	if (!task->ret &&
	    pread(task->fd, buf, PAGE, task->offset) != PAGE)
		task->ret = errno ? errno : EIO;
	flag_set(&task->done);
	return NULL;
}

static void *hold_lock(void *arg)
{
	struct task *task = arg;
	struct loop_info64 info;

	task->ret = 0;
	if (task->cmd == LOOP_SET_STATUS64)
		task->ret = loop_status(task->fd, &info);
	task_started(task);
	if (task->cmd == LOOP_SET_STATUS64) {
		info.lo_file_name[0] ^= 1;
		if (ioctl(task->fd, LOOP_SET_STATUS64, &info))
			task->ret = -errno;
	} else if (ioctl(task->fd, task->cmd, (long)task->backing)) {
		task->ret = -errno;
	}
	flag_set(&task->done);
	return NULL;
}

/* Wait until it sleeps in the kernel, uninterruptibly or killably. */
static bool sleeps_in_kernel(pid_t tid, const bool *done)
{
	long long deadline = now_ms() + PATIENCE_MS;
	char path[64], buf[512], *state;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	while (now_ms() < deadline && !flag_is_set(done)) {
		if (read_text(path, buf, sizeof(buf)))
			return false;
		state = strrchr(buf, ')');
		if (state && !strncmp(state, ") D", 3))
			return true;
		if (state && !strncmp(state, ") Z", 3))
			return false;
		nap();
	}
	return false;
}

struct locked {
	struct target slow;	/* over the slow device, its lock is held */
	struct target idle;	/* not attached */
	struct loop over;	/* as big; a loop device is a backing file, too */
	int null_blk;
	int file;		/* as big */
};

FIXTURE(killed_waiter)
{
	const char *reason;
	struct locked l;
};

FIXTURE_VARIANT(killed_waiter)
{
	unsigned int cmd;
	bool attach;		/* the idle one, with a loop device as its file */
};

FIXTURE_VARIANT_ADD(killed_waiter, clr_fd)
{
	.cmd = LOOP_CLR_FD,
};

FIXTURE_VARIANT_ADD(killed_waiter, change_fd)
{
	.cmd = LOOP_CHANGE_FD,
};

FIXTURE_VARIANT_ADD(killed_waiter, configure)
{
	.cmd = LOOP_CONFIGURE,
	.attach = true,
};

FIXTURE_VARIANT_ADD(killed_waiter, set_fd)
{
	.cmd = LOOP_SET_FD,
	.attach = true,
};

FIXTURE_SETUP(killed_waiter)
{
	struct locked *l = &self->l;

	l->null_blk = -1;
	l->file = -1;
	l->over.nr = -1;
	l->over.fd = -1;
	target_init(&l->slow);
	self->reason = target_init(&l->idle);
	if (self->reason)
		return;
	if (access("/proc/self/stat", F_OK)) {
		self->reason = "needs procfs";
		return;
	}
	if (!have_null_blk()) {
		self->reason = "needs null_blk and configfs";
		return;
	}
	l->null_blk = null_blk_slow(SLOW_SIZE, SLOW_NSEC, false);
	if (l->null_blk == -EINVAL || l->null_blk == -ENOENT) {
		self->reason = "needs a null_blk with timers";
		return;
	}
	ASSERT_LE(0, l->null_blk);

	ASSERT_EQ(0, target_create_with_files(&l->idle, IMAGE_SIZE, true, true));
	ASSERT_EQ(0, target_create_with_files(&l->slow, IMAGE_SIZE, true, true));
	/* past the cache, and read-only: its file is changed */
	loop_close(&l->slow.lo);
	ASSERT_EQ(0, loop_open(&l->slow.lo, O_RDONLY | O_DIRECT));
	ASSERT_EQ(0, loop_configure(l->slow.lo.fd, l->null_blk, 0));

	l->file = backing_file(FILE_SIZE, false);
	ASSERT_LE(0, l->file);
	ASSERT_EQ(0, loop_create(&l->over));
	ASSERT_EQ(0, loop_configure(l->over.fd, l->file, 0));
}

FIXTURE_TEARDOWN(killed_waiter)
{
	struct locked *l = &self->l;

	EXPECT_EQ(0, target_destroy(&l->idle));
	EXPECT_EQ(0, target_destroy(&l->slow));
	if (l->over.nr >= 0)
		EXPECT_EQ(0, loop_destroy(&l->over));
	if (l->file >= 0)
		close(l->file);
	if (l->null_blk >= 0) {
		close(l->null_blk);
		EXPECT_EQ(0, rmdir(NULL_BLK_SLOW));
	}
}

static int waiters_command(struct locked *l, unsigned int cmd)
{
	if (cmd == LOOP_CONFIGURE)
		return loop_configure(l->idle.lo.fd, l->over.fd, 0);
	if (cmd == LOOP_SET_FD)
		return ioctl(l->idle.lo.fd, LOOP_SET_FD, l->over.fd);
	if (cmd == LOOP_CHANGE_FD)
		return ioctl(l->slow.lo.fd, LOOP_CHANGE_FD, l->file);
	return ioctl(l->slow.lo.fd, LOOP_CLR_FD, 0);
}

/*
 * Returns 1 if the waiter died while the lock was held, 0 if the lock was free
 * before, so that nothing is proven, and a negative errno.
 */
static int kill_waiter(struct locked *l, unsigned int cmd, bool attach,
		       off_t offset)
{
	const bool never = false;
	struct task reader = { .fd = l->slow.lo.fd, .offset = offset };
	struct task holder = {
		.fd = l->slow.lo.fd,
		/* of a loop device: this takes the lock of attaching one, too */
		.cmd = attach ? LOOP_CHANGE_FD : LOOP_SET_STATUS64,
		.backing = l->over.fd,
	};
	int ret, status = 0;
	bool waited = false;
	pid_t pid = -1;

	ret = pthread_create(&reader.thread, NULL, read_in_flight, &reader);
	if (ret)
		return -ret;
	if (disk_wait_for_inflight(l->slow.lo.name, &reader.done)) {
		pthread_join(reader.thread, NULL);
		return 0;
	}
	ret = pthread_create(&holder.thread, NULL, hold_lock, &holder);
	if (ret) {
		pthread_join(reader.thread, NULL);
		return -ret;
	}
	while (!flag_is_set(&holder.started))
		nap();
	if (sleeps_in_kernel(holder.tid, &holder.done)) {
		pid = fork();
		if (!pid)
			_exit(waiters_command(l, cmd) ? 1 : 0);
	}
	if (pid > 0) {
		waited = sleeps_in_kernel(pid, &never);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		waited = waited && WIFSIGNALED(status) &&
			 !flag_is_set(&holder.done);
	}
	pthread_join(holder.thread, NULL);
	pthread_join(reader.thread, NULL);
	if (holder.ret)
		return holder.ret;
	if (reader.ret)
		return -reader.ret;
	return waited;
}

TEST_F(killed_waiter, leaves_number_and_events_alone)
{
	struct locked *l = &self->l;
	struct target *t = variant->attach ? &l->idle : &l->slow;
	__u64 old = 0;
	int i, ret = 0;

	SKIP_IF(return, self->reason);

	for (i = 0; !ret && i < NR_ATTEMPTS; i++) {
		/* as it was, after an attempt that proved nothing */
		if (loop_is_bound(l->idle.lo.fd))
			ASSERT_EQ(0, loop_detach(l->idle.lo.fd));
		if (!loop_is_bound(l->slow.lo.fd))
			ASSERT_EQ(0, loop_configure(l->slow.lo.fd,
						    l->null_blk, 0));
		ASSERT_EQ(0, ioctl(l->slow.lo.fd, LOOP_CHANGE_FD, l->null_blk));
		ASSERT_EQ(0, watch_settle(&t->w));
		old = watch_number(&t->w);

		/* what was read once may be in the cache of the slow device */
		ret = kill_waiter(l, variant->cmd, variant->attach,
				  (i + 1) * 1024 * 1024);
	}
	ASSERT_EQ(1, ret) {
		TH_LOG("no waiter died while the lock was held");
	}
	check_no_number_used(_metadata, t, old);
	EXPECT_EQ(!variant->attach, loop_is_bound(t->lo.fd));

	/* and nothing is left locked or claimed */
	ASSERT_EQ(0, variant->cmd == LOOP_CLR_FD ? loop_detach(t->lo.fd) :
		  waiters_command(l, variant->cmd));
	EXPECT_LT(old, watch_number(&t->w));
}

TEST_HARNESS_MAIN
