// SPDX-License-Identifier: GPL-2.0
/*
 * An md array that is started while the one before is being stopped keeps its
 * partitions, and a stop that has waited for the start fails if another program has
 * the array open.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#define MD_FIRST	233	/* not in use otherwise */

#include "diskseq_md.h"
#include "diskseq_partition.h"

#define ROUNDS		10

struct stopper {
	int fd;
	int ret;
	unsigned int ready;
	bool go;
	unsigned int unlocked;	/* the stop has unlocked the array */
	bool restarted;		/* the next one runs, or never will */
	bool returned;		/* the stop has */
};

static void *stop_run(void *arg)
{
	struct stopper *s = arg;

	counter_inc(&s->ready);
	while (!flag_is_set(&s->go))
		;
	s->ret = ioctl(s->fd, STOP_ARRAY, NULL) ? -errno : 0;
	flag_set(&s->returned);
	return NULL;
}

/* Threads that are created from now on inherit it. */
static int run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

/*
 * When STOP_ARRAY has unlocked the array, RUN_ARRAY does not fail with EBUSY any more.
 * Then spin at a higher priority on the processor of the thread that stops, so that it
 * cannot go on until the next array runs.
 */
static void *preempt_run(void *arg)
{
	const struct sched_param param = { .sched_priority = 1 };
	struct stopper *s = arg;
	long long deadline;

	/* if it may not: the stop goes on too early to do harm */
	sched_setscheduler(0, SCHED_FIFO, &param);
	while (!flag_is_set(&s->restarted) &&
	       ioctl(s->fd, RUN_ARRAY, NULL) && errno == EBUSY)
		nap();
	counter_inc(&s->unlocked);
	deadline = now_ms() + 500;
	while (!flag_is_set(&s->restarted) && now_ms() < deadline)
		;
	return NULL;
}

/*
 * Start an array before the stop of the previous one returns. Counts in @early if
 * that stop had not returned by then.
 */
static int start_during_stop(struct stopper *s, const struct loop *member,
			     unsigned int *early)
{
	pthread_t preempt, stop;
	int ret;

	ret = run_on(1);
	if (!ret)
		ret = -pthread_create(&preempt, NULL, preempt_run, s);
	if (ret)
		return ret;
	ret = -pthread_create(&stop, NULL, stop_run, s);
	if (ret) {
		flag_set(&s->restarted);
		pthread_join(preempt, NULL);
		return ret;
	}
	ret = run_on(0);
	if (!ret && !wait_for_count(&s->unlocked, 1))
		ret = -ETIMEDOUT;
	if (!ret)
		ret = md_start_some(s->fd, member, 1);
	if (!ret)
		ret = partition_ioctl(s->fd, BLKPG_ADD_PARTITION, 1, PAGE, PAGE);
	*early += !flag_is_set(&s->returned);
	flag_set(&s->restarted);
	pthread_join(stop, NULL);
	pthread_join(preempt, NULL);
	return ret ?: s->ret;
}

/* The stop of the previous array has unlocked it, but has not returned. */
TEST_F(md, started_during_a_stop_keeps_its_partitions)
{
	unsigned int lost = 0, early = 0;
	int i, ret;

	SKIP_IF(return, self->reason);
	if (udev_is_running())
		SKIP(return, "udev opens the array, and an open scans it");
	if (run_on(1) || run_on(0))
		SKIP(return, "needs two processors");

	for (i = 0; i < ROUNDS; i++) {
		struct stopper s = { .fd = self->fd, .go = true };

		/* not the same member: the stop may not have released that */
		ret = md_start_some(self->fd, &self->member[0], 1);
		if (ret == -ENODEV)
			SKIP(return, "needs raid0");
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, start_during_stop(&s, &self->member[1], &early));
		lost += !partition_exists(md_name, 1);
		ASSERT_EQ(0, md_stop(self->fd));
	}
	EXPECT_EQ(0, lost) {
		TH_LOG("%u of %d lost them", lost, i);
	}
	if (!early && !lost)
		SKIP(return, "each stop returned before the next start");
}

/* Dirty every second page: RUN_ARRAY writes them first, which takes many requests. */
static int dirty_member(int fd)
{
	off_t at;

	for (at = 0; at < IMAGE_SIZE; at += 2 * PAGE)
		if (pwrite(fd, "x", 1, at) != 1)
			return -errno;
	return 0;
}

/* The stop began when the array did not run yet, and has waited for the start. */
TEST_F(md, started_with_another_opener_is_not_stopped)
{
	unsigned int stopped = 0;
	pthread_t thread;
	int i, fd, ret;

	SKIP_IF(return, self->reason);

	for (i = 0; i < ROUNDS; i++) {
		struct stopper s = { .fd = self->fd };

		ASSERT_EQ(0, md_assemble(self->fd, self->member, NR_MEMBERS));
		ASSERT_EQ(0, dirty_member(self->member[0].fd));
		fd = open_disk(md_name, O_RDONLY);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, pthread_create(&thread, NULL, stop_run, &s));
		ASSERT_TRUE(wait_for_count(&s.ready, 1));
		flag_set(&s.go);
		ret = md_run(self->fd);
		pthread_join(thread, NULL);
		close(fd);
		if (s.ret && ret == -ENODEV)
			SKIP(return, "needs raid0");
		/* it may also come first, and leave nothing to start */
		stopped += !s.ret && !ret;
		if (s.ret)
			ASSERT_EQ(0, md_stop(self->fd));
		ASSERT_EQ(0, md_reopen(&self->w, &self->fd));
	}
	EXPECT_EQ(0, stopped) {
		TH_LOG("%u of %d", stopped, i);
	}
}

TEST_HARNESS_MAIN
