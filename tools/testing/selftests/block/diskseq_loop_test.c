// SPDX-License-Identifier: GPL-2.0
/*
 * A loop device gets a new sequence number whenever its content is another:
 * at attach, at detach, and when its file is changed under it. It says so in
 * uevents, and what fails leaves number and events alone.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>

#include "../kselftest_harness.h"
#include "diskseq.h"
#include "diskseq_suspend.h"

#define IMAGE_SIZE	(1024 * 1024)
#define NR_PARTITIONS	2

/* A loop device and what it does. */
struct target {
	struct uevent_log log;
	size_t mark;		/* what is new in the log */
	struct loop lo;
	int nl;
	int image;
	int other;		/* of the same size */
};

static void target_init(struct target *t)
{
	memset(t, 0, sizeof(*t));
	t->nl = -1;
	t->image = -1;
	t->other = -1;
	t->lo.nr = -1;
	t->lo.fd = -1;
}

static int target_create(struct target *t)
{
	int ret;

	t->nl = uevent_open();
	if (t->nl < 0)
		return t->nl;
	t->image = backing_file(IMAGE_SIZE, true);
	if (t->image < 0)
		return t->image;
	t->other = backing_file(IMAGE_SIZE, true);
	if (t->other < 0)
		return t->other;
	ret = loop_create(&t->lo);
	if (ret)
		return ret;
	ret = uevent_fence(t->nl, t->lo.name, &t->log);
	t->mark = t->log.nr;
	return ret;
}

static int target_destroy(struct target *t)
{
	int ret = 0;

	if (t->lo.nr >= 0)
		ret = loop_destroy(&t->lo);
	if (t->other >= 0)
		close(t->other);
	if (t->image >= 0)
		close(t->image);
	if (t->nl >= 0)
		close(t->nl);
	free(t->log.ev);
	return ret;
}

static __u64 number(struct target *t)
{
	__u64 seq = 0;

	return diskseq_sysfs(t->lo.name, &seq) ? 0 : seq;
}

enum partitions {
	NO_PARTITIONS,		/* no event of one */
	PARTITIONS_APPEAR,	/* with the new number */
	PARTITIONS_VANISH,	/* with the old number */
	PARTITIONS_CHANGE,	/* any of these */
};

/*
 * What has happened since the last call is a change of the medium, which had
 * the number @old: by one draw, or by at least one if not @once.
 */
static void check_change(struct __test_metadata *_metadata,
			 struct target *t, __u64 old, bool once,
			 enum partitions partitions)
{
	unsigned int media = 0, plain = 0, adds = 0, removes = 0;
	__u64 by_ioctl = 0, by_sysfs = 0, last = 0, highest = old;
	__u64 announced = 0;
	size_t i;
	int fd;

	/* first of all, lest the fence hides what came too late */
	ASSERT_EQ(0, diskseq_sysfs(t->lo.name, &by_sysfs));
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	fd = t->lo.fd;
	if (fd < 0)
		fd = open_disk(t->lo.name, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, diskseq_ioctl(fd, &by_ioctl));
	if (fd != t->lo.fd)
		close(fd);

	EXPECT_GT(by_sysfs, old);
	EXPECT_EQ(by_sysfs, by_ioctl);

	for (i = t->mark; i < t->log.nr; i++) {
		const struct uevent *ev = &t->log.ev[i];

		if (!uevent_is_own(ev, t->lo.name))
			continue;
		EXPECT_LE(highest, ev->diskseq) {
			TH_LOG("number decreases in SEQNUM order");
		}
		highest = ev->diskseq;

		if (ev->partition) {
			if (uevent_is_add(ev)) {
				adds++;
				EXPECT_EQ(by_ioctl, ev->diskseq);
			} else if (uevent_is_remove(ev)) {
				removes++;
				if (partitions == PARTITIONS_VANISH)
					EXPECT_EQ(old, ev->diskseq);
			}
			continue;
		}
		last = ev->diskseq;
		if (ev->media_change) {
			media++;
			/* drawn first, then announced, each once */
			EXPECT_LT(old, ev->diskseq);
			EXPECT_LT(announced, ev->diskseq);
			announced = ev->diskseq;
			plain = 0;
		} else {
			/*
			 * Nothing has it that is not announced, but that the
			 * device became read-only is in place before.
			 */
			if (ev->diskseq > old && !ev->ro_changed)
				EXPECT_EQ(announced, ev->diskseq);
			if (uevent_is_plain_change(ev))
				plain++;
		}
	}
	t->mark = t->log.nr;

	EXPECT_LT(0, media) {
		TH_LOG("no event with DISK_MEDIA_CHANGE=1");
	}
	EXPECT_EQ(by_ioctl, announced);
	EXPECT_LT(0, plain) {
		TH_LOG("no plain change event after it");
	}
	EXPECT_EQ(by_ioctl, last);
	if (once) {
		EXPECT_EQ(1, media);
		EXPECT_EQ(0, uevent_unaccounted(t->nl, &t->log, old, by_ioctl));
	}
	if (partitions == NO_PARTITIONS) {
		EXPECT_EQ(0, adds);
		EXPECT_EQ(0, removes);
	}
	/* udev may hold one open, so that none is dropped */
	if (udev_is_running())
		return;
	switch (partitions) {
	case NO_PARTITIONS:
		break;
	case PARTITIONS_APPEAR:
		EXPECT_LE(NR_PARTITIONS, adds);
		break;
	case PARTITIONS_VANISH:
		EXPECT_EQ(0, adds);
		EXPECT_LE(NR_PARTITIONS, removes);
		break;
	case PARTITIONS_CHANGE:
		EXPECT_LE(NR_PARTITIONS, adds);
		EXPECT_LE(NR_PARTITIONS, removes);
		break;
	}
}

/* Nothing has happened since the last call. */
static void check_nothing(struct __test_metadata *_metadata,
			  struct target *t, __u64 old)
{
	__u64 by_ioctl = 0, fresh = 0;
	struct loop lo;
	size_t i;

	EXPECT_EQ(old, number(t));
	if (t->lo.fd >= 0) {
		EXPECT_EQ(0, diskseq_ioctl(t->lo.fd, &by_ioctl));
		EXPECT_EQ(old, by_ioctl);
	}
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	for (i = t->mark; i < t->log.nr; i++) {
		const struct uevent *ev = &t->log.ev[i];

		EXPECT_FALSE(uevent_is_own(ev, t->lo.name)) {
			TH_LOG("%s of %s, number %llu", ev->action, ev->devname,
			       (unsigned long long)ev->diskseq);
		}
	}

	/* nor was a number drawn and lost: a new disk gets the next one */
	ASSERT_EQ(0, loop_create(&lo));
	EXPECT_EQ(0, diskseq_ioctl(lo.fd, &fresh));
	EXPECT_EQ(0, uevent_fence(t->nl, lo.name, &t->log));
	EXPECT_GT(fresh, old);
	EXPECT_EQ(0, uevent_unaccounted(t->nl, &t->log, old, fresh));
	EXPECT_EQ(0, loop_destroy(&lo));
	t->mark = t->log.nr;
}

FIXTURE(loop)
{
	const char *reason;
	struct target t;
};

FIXTURE_VARIANT(loop)
{
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(loop, whole)
{
	.flags = 0,
};

FIXTURE_VARIANT_ADD(loop, partscan)
{
	.flags = LO_FLAGS_PARTSCAN,
};

FIXTURE_SETUP(loop)
{
	target_init(&self->t);
	self->reason = loop_unusable();
	if (!self->reason)
		ASSERT_EQ(0, target_create(&self->t));
}

FIXTURE_TEARDOWN(loop)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

/*
 * After the last close: with udev about, that may be not ours, and come later.
 * An open waits for the driver to have finished.
 */
static void wait_for_last_close(struct target *t, __u64 old)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int fd;

	if (!udev_is_running())
		return;
	while (number(t) == old && now_ms() < deadline)
		nap();
	fd = open_disk(t->lo.name, O_RDONLY);
	if (fd >= 0)
		close(fd);
}

TEST_F(loop, attach_by_configure_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	old = number(t);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	check_change(_metadata, t, old, true,
		     variant->flags ? PARTITIONS_APPEAR : NO_PARTITIONS);
}

TEST_F(loop, attach_by_set_fd_gives_a_new_number)
{
	struct target *t = &self->t;
	struct loop_info64 info;
	unsigned int adds = 0;
	__u64 old;
	size_t i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	old = number(t);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_SET_FD, t->image));
	check_change(_metadata, t, old, true, NO_PARTITIONS);

	if (!variant->flags)
		return;

	/* to look for partitions later is no change of medium */
	old = number(t);
	ASSERT_EQ(0, loop_status(t->lo.fd, &info));
	info.lo_flags |= variant->flags;
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_SET_STATUS64, &info));
	EXPECT_EQ(old, number(t));
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	for (i = t->mark; i < t->log.nr; i++) {
		const struct uevent *ev = &t->log.ev[i];

		if (!uevent_is_own(ev, t->lo.name))
			continue;
		EXPECT_EQ(old, ev->diskseq);
		EXPECT_FALSE(ev->media_change);
		if (ev->partition && uevent_is_add(ev))
			adds++;
	}
	EXPECT_LE(NR_PARTITIONS, adds);
}

TEST_F(loop, attach_read_only_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	loop_close(&t->lo);
	ASSERT_EQ(0, loop_open(&t->lo, O_RDONLY));
	old = number(t);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	check_change(_metadata, t, old, true,
		     variant->flags ? PARTITIONS_APPEAR : NO_PARTITIONS);
}

TEST_F(loop, detach_by_clr_fd_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	old = number(t);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	check_change(_metadata, t, old, true,
		     variant->flags ? PARTITIONS_APPEAR : NO_PARTITIONS);

	old = number(t);
	ASSERT_EQ(0, loop_detach(t->lo.fd));
	check_change(_metadata, t, old, true,
		     variant->flags ? PARTITIONS_VANISH : NO_PARTITIONS);
}

TEST_F(loop, detach_by_autoclear_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	old = number(t);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
				    variant->flags | LO_FLAGS_AUTOCLEAR));
	check_change(_metadata, t, old, true,
		     variant->flags ? PARTITIONS_APPEAR : NO_PARTITIONS);

	old = number(t);
	loop_close(&t->lo);
	wait_for_last_close(t, old);
	check_change(_metadata, t, old, true,
		     variant->flags ? PARTITIONS_VANISH : NO_PARTITIONS);
}

TEST_F(loop, detach_put_off_draws_at_the_last_close_only)
{
	struct target *t = &self->t;
	struct loop_info64 info;
	__u64 old;
	int opener;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	old = number(t);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	check_change(_metadata, t, old, true,
		     variant->flags ? PARTITIONS_APPEAR : NO_PARTITIONS);

	old = number(t);
	opener = open_disk(t->lo.name, O_RDONLY);
	ASSERT_LE(0, opener);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CLR_FD, 0));
	ASSERT_EQ(0, loop_status(t->lo.fd, &info));
	EXPECT_NE(0, info.lo_flags & LO_FLAGS_AUTOCLEAR);
	check_nothing(_metadata, t, old);

	close(opener);
	check_nothing(_metadata, t, old);

	loop_close(&t->lo);
	wait_for_last_close(t, old);
	/* a disk that came and went since has drawn one, too: see the log */
	check_change(_metadata, t, old, true,
		     variant->flags ? PARTITIONS_VANISH : NO_PARTITIONS);
}

TEST_F(loop, change_fd_gives_a_new_number)
{
	struct target *t = &self->t;
	__u64 old;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	old = number(t);
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
				    variant->flags | LO_FLAGS_READ_ONLY));
	check_change(_metadata, t, old, true,
		     variant->flags ? PARTITIONS_APPEAR : NO_PARTITIONS);

	old = number(t);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CHANGE_FD, t->other));
	check_change(_metadata, t, old, false,
		     variant->flags ? PARTITIONS_CHANGE : NO_PARTITIONS);

	/* and back: the same file again is another medium again */
	old = number(t);
	ASSERT_EQ(0, ioctl(t->lo.fd, LOOP_CHANGE_FD, t->image));
	check_change(_metadata, t, old, false,
		     variant->flags ? PARTITIONS_CHANGE : NO_PARTITIONS);
}

TEST_F(loop, number_stays_while_the_machine_sleeps)
{
	struct target *t = &self->t;
	__u64 seq;
	int ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, variant->flags));
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	t->mark = t->log.nr;
	seq = number(t);
	ret = suspend_and_resume();
	if (ret == -ENODEV)
		SKIP(return, "needs CONFIG_SUSPEND and CONFIG_PM_DEBUG");
	ASSERT_EQ(0, ret);
	check_nothing(_metadata, t, seq);
	EXPECT_TRUE(loop_is_bound(t->lo.fd));
	ASSERT_EQ(0, loop_detach(t->lo.fd));
}

TEST_F(loop, each_of_several_cycles_draws_twice)
{
	struct target *t = &self->t;
	__u64 old;
	int i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < 4; i++) {
		old = number(t);
		ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
					    variant->flags));
		check_change(_metadata, t, old, true,
			     variant->flags ? PARTITIONS_APPEAR :
			     NO_PARTITIONS);
		old = number(t);
		ASSERT_EQ(0, loop_detach(t->lo.fd));
		check_change(_metadata, t, old, true,
			     variant->flags ? PARTITIONS_VANISH :
			     NO_PARTITIONS);
	}
}

/*
 * A program that attaches a file reads the number from the descriptor that it has
 * attached it with. Other programs do to the device whatever they can.
 */
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

static void count(unsigned int *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELEASE);
}

static unsigned int counted(const unsigned int *counter)
{
	return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

static void *attack(void *arg)
{
	struct attacker *a = arg;

	while (!__atomic_load_n(a->stop, __ATOMIC_ACQUIRE)) {
		int fd = open_disk(a->name, O_RDWR);

		if (fd >= 0) {
			if (!ioctl(fd, LOOP_CLR_FD, 0))
				count(&a->clears);
			if (loop_configure(fd, a->file, 0) == -EBUSY)
				count(&a->attaches_refused);
			close(fd);
		}
		if (loop_ctl(LOOP_CTL_REMOVE, a->nr) == -EBUSY)
			count(&a->removes_refused);
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

		while (counted(&a->clears) == before[i].clears ||
		       counted(&a->attaches_refused) == before[i].attaches_refused ||
		       counted(&a->removes_refused) == before[i].removes_refused) {
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
	target_init(&self->t);
	self->reason = loop_unusable();
	if (!self->reason)
		ASSERT_EQ(0, target_create(&self->t));
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (i = 0; i < NR_ATTACKERS; i++)
		ASSERT_EQ(0, pthread_join(attackers[i].thread, NULL));
	/* for the tear-down, which wants a device */
	loop_add_nr(t->lo.nr);
	ASSERT_EQ(0, loop_open(&t->lo, O_RDWR));
	if (loop_is_bound(t->lo.fd))
		EXPECT_EQ(0, loop_detach(t->lo.fd));
}

/* What fails, on a loop device that is in this state before and after */
enum state { UNBOUND, BOUND, BOUND_READ_ONLY };

enum backing { IMAGE, OTHER, BIGGER, OWN_DEVICE, DIRECTORY, PIPE, CLOSED, };

struct attempt {
	unsigned int cmd;
	enum backing backing;
	unsigned int block_size;
	unsigned int flags;
	unsigned int key_size;
	bool claimed;		/* by another opener, exclusively */
	bool no_memory;		/* where the argument points */
	bool half_memory;
};

static int attempt(struct target *t, const struct attempt *a)
{
	long size = sysconf(_SC_PAGESIZE);
	struct loop_config *config;
	int ret, backing = -1, opener = -1, fds[2] = { -1, -1 };
	char *mem;

	switch (a->backing) {
	case IMAGE:
		backing = dup(t->image);
		break;
	case OTHER:
		backing = dup(t->other);
		break;
	case BIGGER:
		backing = backing_file(2 * IMAGE_SIZE, false);
		break;
	case OWN_DEVICE:
		backing = dup(t->lo.fd);
		break;
	case DIRECTORY:
		backing = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		break;
	case PIPE:
		if (!pipe(fds))
			backing = fds[0];
		break;
	case CLOSED:
		break;
	}
	if (a->backing != CLOSED && backing < 0)
		return -EIO;
	if (a->claimed) {
		opener = open_disk(t->lo.name, O_RDONLY | O_EXCL);
		if (opener < 0)
			return -EIO;
	}

	if (a->cmd == LOOP_CONFIGURE) {
		mem = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mem == MAP_FAILED)
			return -EIO;
		munmap(mem + size, size);
		config = (void *)(mem + size - sizeof(*config));
		if (a->half_memory)
			config = (void *)(mem + size - sizeof(*config) / 2);
		config->fd = backing;
		config->block_size = a->block_size;
		if (!a->half_memory) {
			config->info.lo_flags = a->flags;
			config->info.lo_encrypt_key_size = a->key_size;
		}
		if (a->no_memory)
			config = (void *)(mem + size);
		ret = ioctl(t->lo.fd, a->cmd, config) ? -errno : 0;
		munmap(mem, size);
	} else {
		ret = ioctl(t->lo.fd, a->cmd, (long)backing) ? -errno : 0;
	}
	if (opener >= 0)
		close(opener);
	if (backing >= 0)
		close(backing);
	if (fds[1] >= 0)
		close(fds[1]);
	return ret;
}

FIXTURE(failure)
{
	const char *reason;
	struct target t;
};

FIXTURE_VARIANT(failure)
{
	enum state state;
	struct attempt a;
	int error;
};

FIXTURE_VARIANT_ADD(failure, configure_closed_descriptor)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = CLOSED,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, configure_directory)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = DIRECTORY,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_pipe)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = PIPE,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_own_device)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = OWN_DEVICE,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, configure_small_block)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.block_size = 256,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_odd_block)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.block_size = 1536,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_unknown_flag)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.flags = 0x40000000,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_long_key)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.key_size = LO_KEY_SIZE + 1,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_bad_pointer)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.no_memory = true,
	.error = EFAULT,
};

FIXTURE_VARIANT_ADD(failure, configure_half_bad_pointer)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.half_memory = true,
	.error = EFAULT,
};

FIXTURE_VARIANT_ADD(failure, configure_claimed_device)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.claimed = true,
	.error = EBUSY,
};

FIXTURE_VARIANT_ADD(failure, configure_busy_device)
{
	.state = BOUND,
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = OTHER,
	.error = EBUSY,
};

FIXTURE_VARIANT_ADD(failure, set_fd_closed_descriptor)
{
	.a.cmd = LOOP_SET_FD,
	.a.backing = CLOSED,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, set_fd_directory)
{
	.a.cmd = LOOP_SET_FD,
	.a.backing = DIRECTORY,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, set_fd_claimed_device)
{
	.a.cmd = LOOP_SET_FD,
	.a.claimed = true,
	.error = EBUSY,
};

FIXTURE_VARIANT_ADD(failure, set_fd_busy_device)
{
	.state = BOUND,
	.a.cmd = LOOP_SET_FD,
	.a.backing = OTHER,
	.error = EBUSY,
};

FIXTURE_VARIANT_ADD(failure, change_fd_unbound_device)
{
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = OTHER,
	.error = ENXIO,
};

FIXTURE_VARIANT_ADD(failure, change_fd_writable_device)
{
	.state = BOUND,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = OTHER,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, change_fd_closed_descriptor)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = CLOSED,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, change_fd_directory)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = DIRECTORY,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, change_fd_pipe)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = PIPE,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, change_fd_own_device)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = OWN_DEVICE,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, change_fd_bigger_file)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = BIGGER,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, clr_fd_unbound_device)
{
	.a.cmd = LOOP_CLR_FD,
	.a.backing = CLOSED,
	.error = ENXIO,
};

FIXTURE_SETUP(failure)
{
	struct target *t = &self->t;

	target_init(t);
	self->reason = loop_unusable();
	if (self->reason)
		return;
	ASSERT_EQ(0, target_create(t));
	if (variant->state == UNBOUND)
		return;
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
				    variant->state == BOUND_READ_ONLY ?
				    LO_FLAGS_READ_ONLY : 0));
	ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
	t->mark = t->log.nr;
}

FIXTURE_TEARDOWN(failure)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

TEST_F(failure, leaves_number_and_events_alone)
{
	struct target *t = &self->t;
	__u64 old;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	old = number(t);
	ASSERT_NE(0, old);
	ASSERT_EQ(-variant->error, attempt(t, &variant->a));
	check_nothing(_metadata, t, old);
	EXPECT_EQ(variant->state != UNBOUND, loop_is_bound(t->lo.fd));
}

/*
 * A fatal signal while waiting for the lock. Who holds it for long enough is
 * one that changes a loop device with a read in flight: it waits for the read,
 * and the device below is a slow one.
 */
#define SLOW_ITEM	NULL_BLK "/diskseq_slow"
#define SLOW_NSEC	"250000000"
#define SLOW_MB		16
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
	__atomic_store_n(&task->started, true, __ATOMIC_RELEASE);
}

static bool task_is(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void *read_in_flight(void *arg)
{
	struct task *task = arg;
	void *buf;

	task_started(task);
	task->ret = posix_memalign(&buf, 4096, 4096);
	if (!task->ret &&
	    pread(task->fd, buf, 4096, task->offset) != 4096)
		task->ret = errno ? errno : EIO;
	__atomic_store_n(&task->done, true, __ATOMIC_RELEASE);
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
	__atomic_store_n(&task->done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Wait until it sleeps in the kernel, uninterruptibly or killably. */
static bool sleeps_in_kernel(pid_t tid, const bool *done)
{
	long long deadline = now_ms() + PATIENCE_MS;
	char path[64], buf[512], *state;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	while (now_ms() < deadline && !task_is(done)) {
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

static bool has_reads_in_flight(const char *disk, const bool *done)
{
	long long deadline = now_ms() + PATIENCE_MS;
	char path[64], buf[64];

	snprintf(path, sizeof(path), "/sys/block/%s/inflight", disk);
	while (now_ms() < deadline && !task_is(done)) {
		if (read_text(path, buf, sizeof(buf)))
			return false;
		if (atoi(buf) > 0)
			return true;
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

static int slow_device(void)
{
	static const char * const settings[][2] = {
		{ "size", "16" },
		{ "irqmode", "2" },
		{ "completion_nsec", SLOW_NSEC },
		{ "power", "1" },
	};
	char path[128], buf[32], name[32];
	size_t i;
	int ret;

	rmdir(SLOW_ITEM);
	if (mkdir(SLOW_ITEM, 0755))
		return -errno;
	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		snprintf(path, sizeof(path), SLOW_ITEM "/%s", settings[i][0]);
		ret = write_text(path, settings[i][1]);
		if (ret)
			return ret;
	}
	/* named by its item or by its index */
	if (!access("/sys/block/diskseq_slow", F_OK))
		return open_disk("diskseq_slow", O_RDONLY);
	ret = read_text(SLOW_ITEM "/index", buf, sizeof(buf));
	if (ret)
		return ret;
	snprintf(name, sizeof(name), "nullb%d", atoi(buf));
	return open_disk(name, O_RDONLY);
}

FIXTURE_SETUP(killed_waiter)
{
	struct locked *l = &self->l;

	l->null_blk = -1;
	l->file = -1;
	l->over.nr = -1;
	l->over.fd = -1;
	target_init(&l->slow);
	target_init(&l->idle);

	self->reason = loop_unusable();
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
	l->null_blk = slow_device();
	if (l->null_blk == -EINVAL || l->null_blk == -ENOENT) {
		self->reason = "needs a null_blk with timers";
		return;
	}
	ASSERT_LE(0, l->null_blk);

	ASSERT_EQ(0, target_create(&l->idle));
	ASSERT_EQ(0, target_create(&l->slow));
	/* past the cache, and read-only: its file is changed */
	loop_close(&l->slow.lo);
	ASSERT_EQ(0, loop_open(&l->slow.lo, O_RDONLY | O_DIRECT));
	ASSERT_EQ(0, loop_configure(l->slow.lo.fd, l->null_blk, 0));

	l->file = backing_file(SLOW_MB * 1024 * 1024, false);
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
		EXPECT_EQ(0, rmdir(SLOW_ITEM));
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
	if (!has_reads_in_flight(l->slow.lo.name, &reader.done)) {
		pthread_join(reader.thread, NULL);
		return 0;
	}
	ret = pthread_create(&holder.thread, NULL, hold_lock, &holder);
	if (ret) {
		pthread_join(reader.thread, NULL);
		return -ret;
	}
	while (!task_is(&holder.started))
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
			 !task_is(&holder.done);
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; !ret && i < NR_ATTEMPTS; i++) {
		/* as it was, after an attempt that proved nothing */
		if (loop_is_bound(l->idle.lo.fd))
			ASSERT_EQ(0, loop_detach(l->idle.lo.fd));
		if (!loop_is_bound(l->slow.lo.fd))
			ASSERT_EQ(0, loop_configure(l->slow.lo.fd,
						    l->null_blk, 0));
		ASSERT_EQ(0, ioctl(l->slow.lo.fd, LOOP_CHANGE_FD, l->null_blk));
		ASSERT_EQ(0, uevent_fence(t->nl, t->lo.name, &t->log));
		t->mark = t->log.nr;
		old = number(t);

		/* what was read once may be in the cache of the slow device */
		ret = kill_waiter(l, variant->cmd, variant->attach,
				  (i + 1) * 1024 * 1024);
	}
	ASSERT_EQ(1, ret) {
		TH_LOG("no waiter died while the lock was held");
	}
	check_nothing(_metadata, t, old);
	EXPECT_EQ(!variant->attach, loop_is_bound(t->lo.fd));

	/* and nothing is left locked or claimed */
	ASSERT_EQ(0, variant->cmd == LOOP_CLR_FD ? loop_detach(t->lo.fd) :
		  waiters_command(l, variant->cmd));
	check_change(_metadata, t, old, variant->cmd != LOOP_CHANGE_FD,
		     NO_PARTITIONS);
}

TEST_HARNESS_MAIN
