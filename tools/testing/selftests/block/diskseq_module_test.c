// SPDX-License-Identifier: GPL-2.0
/*
 * The loop driver as a module, which is unloaded and loaded again while programs
 * attach and detach: the counter is the kernel's, so it goes on, and each disk's
 * last event has the disk's own number.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>

#include "diskseq.h"
#include "diskseq_skip.h"

#define NR_WORKERS	2
#define MAX_LOADS	100

struct work {
	bool stop;
	unsigned int attached;	/* how often */
	unsigned int decreased;	/* a number not above the worker's last */
};

/* One attach and detach, if there is a driver */
static void attach(struct work *w, int nr, int backing, __u64 *last)
{
	struct loop lo = { .nr = nr };
	__u64 seq;
	int ret;

	ret = loop_add_nr(nr);
	if (ret < 0 && ret != -EEXIST)
		return;
	snprintf(lo.name, sizeof(lo.name), "loop%d", nr);
	if (loop_open(&lo, O_RDONLY))
		return;
	if (!loop_configure(lo.fd, backing, LO_FLAGS_READ_ONLY |
			    LO_FLAGS_PARTSCAN)) {
		if (diskseq_ioctl(lo.fd, &seq) || seq <= *last)
			counter_inc(&w->decreased);
		*last = seq;
		counter_inc(&w->attached);
		ioctl(lo.fd, LOOP_CLR_FD, 0);
	}
	loop_close(&lo);
}

static void work(struct work *w, int nr)
{
	int backing = backing_file(1 << 20, true);
	__u64 last = 0;

	while (backing >= 0 && !flag_is_set(&w->stop)) {
		attach(w, nr, backing, &last);
		/* a driver can be unloaded while no disk is open */
		nap();
	}
}

/* As soon as it is not in use */
static int unload(void)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (syscall(__NR_delete_module, "loop", O_NONBLOCK)) {
		if (errno != EWOULDBLOCK && errno != EBUSY)
			return -errno;
		if (now_ms() > deadline)
			return -ETIMEDOUT;
	}
	return 0;
}

static bool is_used(void)
{
	char refs[32];

	return read_text("/sys/module/loop/refcnt", refs, sizeof(refs)) ||
	       atoi(refs);
}

FIXTURE(loop_module)
{
	const char *reason;
	struct uevent_log log;
	struct work *work;
	pid_t pid[NR_WORKERS];
	int nl;
};

FIXTURE_SETUP(loop_module)
{
	self->nl = -1;
	self->reason = loop_unusable();
	if (!self->reason && !may_disrupt())
		self->reason = "unloads the loop driver: needs DISKSEQ_DISRUPT=1";
	if (!self->reason && access("/sys/module/loop/initstate", F_OK))
		self->reason = "needs the loop driver as a module";
	if (!self->reason && (udev_is_running() || is_used()))
		self->reason = "needs loop devices that no other program uses";
	if (self->reason)
		return;
	self->nl = uevent_open();
	ASSERT_LE(0, self->nl);
	self->work = mmap(NULL, sizeof(*self->work), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->work);
}

FIXTURE_TEARDOWN(loop_module)
{
	if (self->reason)
		return;
	load_module("loop", NULL);
	close(self->nl);
	free(self->log.ev);
}

/* Every disk is removed under the number that it had last. */
static void check_events(struct __test_metadata *_metadata,
			 const struct uevent_log *log, unsigned int *removed)
{
	size_t i, k;

	for (i = 0; i < log->nr; i++) {
		const struct uevent *ev = &log->ev[i];

		if (strncmp(ev->disk, "loop", 4) || ev->partition ||
		    !uevent_is_remove(ev))
			continue;
		++*removed;
		for (k = i; k--; )
			if (!log->ev[k].partition &&
			    !strcmp(log->ev[k].disk, ev->disk))
				break;
		if (k == (size_t)-1)
			continue;
		EXPECT_FALSE(uevent_is_remove(&log->ev[k]));
		EXPECT_EQ(log->ev[k].diskseq, ev->diskseq) {
			TH_LOG("%s was removed as %llu, before: %llu", ev->disk,
			       (unsigned long long)ev->diskseq,
			       (unsigned long long)log->ev[k].diskseq);
		}
	}
}

TEST_F_TIMEOUT(loop_module, numbers_go_on_when_it_is_loaded_again, 600)
{
	int loads = test_rounds(MAX_LOADS), i, k, status;
	struct work *w = self->work;
	unsigned int removed = 0;
	__u64 last = 0, seq;
	struct uevent ev;
	char name[16];

	SKIP_IF(return, self->reason);

	snprintf(name, sizeof(name), "loop%d", LOOP_FIRST);
	for (i = 0; i < NR_WORKERS; i++) {
		self->pid[i] = fork();
		ASSERT_LE(0, self->pid[i]);
		if (!self->pid[i]) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			work(w, LOOP_FIRST + 1 + i);
			_exit(0);
		}
	}
	for (i = 0; i < loads; i++) {
		unsigned int attached = counter_read(&w->attached);

		ASSERT_EQ(LOOP_FIRST, loop_add_nr(LOOP_FIRST));
		ASSERT_EQ(0, diskseq_sysfs(name, &seq));
		EXPECT_LT(last, seq);
		last = seq;
		ASSERT_TRUE(wait_for_count(&w->attached, attached + 4));
		ASSERT_EQ(0, unload());
		/* unless a worker has done so meanwhile */
		load_module("loop", NULL);
	}
	flag_set(&w->stop);
	for (i = 0; i < NR_WORKERS; i++) {
		ASSERT_EQ(self->pid[i], waitpid(self->pid[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	EXPECT_EQ(0, w->decreased);

	while ((k = uevent_read(self->nl, &ev, 0)) > 0)
		ASSERT_EQ(0, uevent_append(&self->log, &ev));
	ASSERT_EQ(0, k);
	check_events(_metadata, &self->log, &removed);
	EXPECT_LE(loads, removed);
	TH_LOG("%d times loaded, %u times attached, %u disks removed", loads,
	       w->attached, removed);
}

TEST_HARNESS_MAIN
