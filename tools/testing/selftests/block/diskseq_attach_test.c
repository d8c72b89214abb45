// SPDX-License-Identifier: GPL-2.0
/*
 * A program that attaches a file to a loop device reads the number of that file
 * from the descriptor that it has attached it with, whatever other programs do to
 * the device.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq.h"
#include "diskseq_target.h"

#define IMAGE_SIZE	(1024 * 1024)
#define NR_ATTACKERS	2
#define NR_ATTACHES	40

struct attacker {
	pthread_t thread;
	const char *name;
	int nr;
	int file;
	bool *stop;
	/* how often, so that the test knows that it was attacked */
	unsigned int clears;
	unsigned int attaches_refused;
	unsigned int removes_refused;
};

static void *attack(void *arg)
{
	struct attacker *a = arg;

	while (!flag_is_set(a->stop)) {
		int fd = open_disk(a->name, O_RDWR);

		if (fd >= 0) {
			if (!ioctl(fd, LOOP_CLR_FD, 0))
				counter_inc(&a->clears);
			if (loop_configure(fd, a->file, 0) == -EBUSY)
				counter_inc(&a->attaches_refused);
			close(fd);
		}
		if (loop_ctl(LOOP_CTL_REMOVE, a->nr) == -EBUSY)
			counter_inc(&a->removes_refused);
		nap();
	}
	return NULL;
}

/* Each attacker has tried everything once more. */
static bool attacked(const struct attacker *attackers)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct attacker before[NR_ATTACKERS];
	int i;

	memcpy(before, attackers, sizeof(before));
	for (i = 0; i < NR_ATTACKERS; i++) {
		const struct attacker *a = &attackers[i];

		while (counter_read(&a->clears) == before[i].clears ||
		       counter_read(&a->attaches_refused) == before[i].attaches_refused ||
		       counter_read(&a->removes_refused) == before[i].removes_refused) {
			if (now_ms() > deadline)
				return false;
			nap();
		}
	}
	return true;
}

/* An attacker may have removed the device, or attached to it first. */
static int attach_under_attack(struct loop *lo, int file)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	do {
		loop_add_nr(lo->nr);
		ret = loop_open(lo, O_RDWR);
		if (!ret) {
			ret = loop_configure(lo->fd, file, 0);
			if (!ret)
				return 0;
			ioctl(lo->fd, LOOP_CLR_FD, 0);
			loop_close(lo);
		}
		nap();
	} while (now_ms() < deadline);
	return ret;
}

FIXTURE(attached)
{
	const char *reason;
	struct target t;
};

FIXTURE_SETUP(attached)
{
	self->reason = target_init(&self->t);
	if (!self->reason)
		ASSERT_EQ(0, target_create_with_files(&self->t, IMAGE_SIZE,
						      true, true));
}

FIXTURE_TEARDOWN(attached)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

TEST_F_TIMEOUT(attached, number_is_that_of_the_file_while_others_detach_and_attach,
	       300)
{
	struct attacker attackers[NR_ATTACKERS] = {};
	struct target *t = &self->t;
	struct loop_info64 info;
	bool stop = false;
	struct stat st;
	__u64 last = 0;
	int i;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, fstat(t->image, &st));
	loop_close(&t->lo);
	for (i = 0; i < NR_ATTACKERS; i++) {
		attackers[i].name = t->lo.name;
		attackers[i].nr = t->lo.nr;
		attackers[i].file = t->other;
		attackers[i].stop = &stop;
		ASSERT_EQ(0, pthread_create(&attackers[i].thread, NULL, attack,
					    &attackers[i]));
	}
	for (i = 0; i < NR_ATTACHES; i++) {
		__u64 seq = 0, again = 0;

		ASSERT_EQ(0, attach_under_attack(&t->lo, t->image));
		EXPECT_EQ(0, diskseq_ioctl(t->lo.fd, &seq));
		EXPECT_LT(last, seq);
		EXPECT_TRUE(attacked(attackers)) {
			TH_LOG("an attacker gets no further");
		}
		ASSERT_EQ(0, loop_status(t->lo.fd, &info)) {
			TH_LOG("detached under an open descriptor");
		}
		EXPECT_EQ(st.st_ino, info.lo_inode);
		EXPECT_EQ(0, diskseq_ioctl(t->lo.fd, &again));
		EXPECT_EQ(seq, again);
		last = again;
		ioctl(t->lo.fd, LOOP_CLR_FD, 0);
		loop_close(&t->lo);
	}
	flag_set(&stop);
	for (i = 0; i < NR_ATTACKERS; i++)
		ASSERT_EQ(0, pthread_join(attackers[i].thread, NULL));
	/* the tear-down wants a device */
	loop_add_nr(t->lo.nr);
	ASSERT_EQ(0, loop_open(&t->lo, O_RDWR));
	if (loop_is_bound(t->lo.fd))
		EXPECT_EQ(0, loop_detach(t->lo.fd));
}

TEST_HARNESS_MAIN
