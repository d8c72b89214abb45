// SPDX-License-Identifier: GPL-2.0
/*
 * LOOP_CONFIGURE with LO_FLAGS_DISKSEQ tells the caller which number it gave to
 * the device, whatever anybody does to the device at the same time.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <linux/userfaultfd.h>

#include "../kselftest_harness.h"
#include "diskseq.h"

#define IMAGE_SIZE	(64 * 1024)
#define RACERS		4

/* What struct loop_config has had all along, and where the number goes */
struct config {
	__u32			fd;
	__u32			block_size;
	struct loop_info64	info;
	__u64			diskseq;
	__u64			reserved[7];
};

/* an enumerator where the header has it */
#define LO_FLAGS_DISKSEQ	32

static int configure(int fd, struct config *config)
{
	return ioctl(fd, LOOP_CONFIGURE, config) ? -errno : 0;
}

static int configure_told(int fd, int backing, __u64 *seq)
{
	struct config config = {
		.fd = backing,
		.info.lo_flags = LO_FLAGS_DISKSEQ,
	};
	int ret;

	ret = configure(fd, &config);
	*seq = config.diskseq;
	return ret;
}

/* The kernel has the numbers, but LOOP_CONFIGURE may not tell them. */
static const char *flag_unusable(void)
{
	const char *reason = loop_unusable();
	struct loop lo;
	__u64 seq;
	int image;

	if (reason || getenv("DISKSEQ_NO_PROBE"))
		return reason;
	image = backing_file(IMAGE_SIZE, false);
	if (image < 0 || loop_create(&lo))
		return "can't make a loop device";
	if (configure_told(lo.fd, image, &seq) == -EINVAL)
		reason = "LOOP_CONFIGURE has no LO_FLAGS_DISKSEQ";
	loop_destroy(&lo);
	close(image);
	return reason;
}

FIXTURE(configure)
{
	const char *reason;
	struct uevent_log log;
	struct loop lo;
	int image;
	int nl;
};

FIXTURE_SETUP(configure)
{
	self->reason = flag_unusable();
	self->lo.nr = -1;
	self->lo.fd = -1;
	self->image = -1;
	self->nl = -1;
	memset(&self->log, 0, sizeof(self->log));
	if (self->reason)
		return;
	self->nl = uevent_open();
	ASSERT_LE(0, self->nl);
	self->image = backing_file(IMAGE_SIZE, false);
	ASSERT_LE(0, self->image);
	ASSERT_EQ(0, loop_create(&self->lo));
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	self->log.nr = 0;
}

FIXTURE_TEARDOWN(configure)
{
	if (self->lo.nr >= 0)
		EXPECT_EQ(0, loop_destroy(&self->lo));
	if (self->image >= 0)
		close(self->image);
	if (self->nl >= 0)
		close(self->nl);
	free(self->log.ev);
}

/* How many media changes does the log announce with this number? */
static unsigned int announced(const struct uevent_log *log, const char *disk,
			      __u64 seq)
{
	unsigned int nr = 0;
	size_t i;

	for (i = 0; i < log->nr; i++)
		nr += uevent_is_own(&log->ev[i], disk) &&
		      log->ev[i].media_change && log->ev[i].diskseq == seq;
	return nr;
}

TEST_F(configure, tells_the_number_that_it_gave)
{
	__u64 old = 0, told = 0, seq = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, diskseq_sysfs(self->lo.name, &old));
	ASSERT_EQ(0, configure_told(self->lo.fd, self->image, &told));
	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	EXPECT_EQ(seq, told);
	EXPECT_GT(told, old);
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	EXPECT_EQ(1, announced(&self->log, self->lo.name, told));
	/* one draw: the number that is told is not one that was left behind */
	EXPECT_EQ(0, uevent_unaccounted(self->nl, &self->log, old, seq));
}

TEST_F(configure, flag_is_no_state_of_the_device)
{
	struct loop_info64 info;
	__u64 told, seq = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, configure_told(self->lo.fd, self->image, &told));
	ASSERT_EQ(0, loop_status(self->lo.fd, &info));
	EXPECT_EQ(0, info.lo_flags & LO_FLAGS_DISKSEQ);
	info.lo_flags |= LO_FLAGS_DISKSEQ;
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_SET_STATUS64, &info));
	ASSERT_EQ(0, loop_status(self->lo.fd, &info));
	EXPECT_EQ(0, info.lo_flags & LO_FLAGS_DISKSEQ);
	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	EXPECT_EQ(told, seq);
}

/* Old callers leave anything in the reserved space, and may have it read-only. */
TEST_F(configure, without_the_flag_reserved_space_is_neither_read_nor_written)
{
	struct config *config;
	__u64 old = 0, seq = 0;
	size_t i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	config = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(config != MAP_FAILED);
	config->fd = self->image;
	config->diskseq = 1;
	for (i = 0; i < 7; i++)
		config->reserved[i] = ~0ULL;
	ASSERT_EQ(0, mprotect(config, getpagesize(), PROT_READ));
	ASSERT_EQ(0, diskseq_sysfs(self->lo.name, &old));
	ASSERT_EQ(0, configure(self->lo.fd, config));
	EXPECT_EQ(1, config->diskseq);
	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	EXPECT_GT(seq, old);
	munmap(config, getpagesize());
}

TEST_F(configure, memory_that_cannot_be_written_leaves_all_alone)
{
	struct config *config;
	__u64 old = 0, seq = 0;
	size_t i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	config = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(config != MAP_FAILED);
	config->fd = self->image;
	config->info.lo_flags = LO_FLAGS_DISKSEQ;
	ASSERT_EQ(0, mprotect(config, getpagesize(), PROT_READ));
	ASSERT_EQ(0, diskseq_sysfs(self->lo.name, &old));
	EXPECT_EQ(-EFAULT, configure(self->lo.fd, config));
	EXPECT_FALSE(loop_is_bound(self->lo.fd));
	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	EXPECT_EQ(old, seq);
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	for (i = 0; i < self->log.nr; i++)
		EXPECT_FALSE(uevent_is_own(&self->log.ev[i], self->lo.name));
	munmap(config, getpagesize());
}

TEST_F(configure, failure_leaves_all_alone)
{
	__u64 old = 0, told, seq = 0;
	size_t i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, diskseq_sysfs(self->lo.name, &old));
	EXPECT_EQ(-EBADF, configure_told(self->lo.fd, -1, &told));
	EXPECT_FALSE(loop_is_bound(self->lo.fd));
	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	EXPECT_EQ(old, seq);
	ASSERT_EQ(0, configure_told(self->lo.fd, self->image, &old));
	EXPECT_EQ(-EBUSY, configure_told(self->lo.fd, self->image, &told));
	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	EXPECT_EQ(old, seq);
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	for (i = 0; i < self->log.nr; i++)
		if (uevent_is_own(&self->log.ev[i], self->lo.name))
			EXPECT_EQ(old, self->log.ev[i].diskseq);
}

/* The write to user memory is held up, so that others have all the time. */
struct held {
	struct loop *lo;
	struct config *config;
	int finished[2];	/* pipe */
	int ret;
};

static void *configure_held(void *arg)
{
	struct held *held = arg;

	held->ret = configure(held->lo->fd, held->config);
	close(held->finished[1]);
	return NULL;
}

static int hold_writes(void *page)
{
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)page, getpagesize() },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	struct uffdio_register reg = {
		.range = wp.range,
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	int fd, err;

	fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (!ioctl(fd, UFFDIO_API, &api) &&
	    !ioctl(fd, UFFDIO_REGISTER, &reg) &&
	    !ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
		return fd;
	err = errno;
	close(fd);
	return -err;
}

static int let_write(int fd, void *page)
{
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)page, getpagesize() },
	};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

TEST_F(configure, number_that_was_overtaken_is_not_told)
{
	struct pollfd pfd[2] = { { .events = POLLIN }, { .events = POLLIN } };
	struct held held = { .lo = &self->lo };
	__u64 old = 0, seq = 0;
	struct uffd_msg msg;
	pthread_t thread;
	int other, uffd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	other = backing_file(IMAGE_SIZE, false);
	ASSERT_LE(0, other);
	held.config = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(held.config != MAP_FAILED);
	held.config->fd = self->image;
	held.config->info.lo_flags = LO_FLAGS_DISKSEQ;
	uffd = hold_writes(held.config);
	if (uffd < 0)
		SKIP(return, "no userfaultfd that holds writes");

	ASSERT_EQ(0, pipe(held.finished));
	ASSERT_EQ(0, pthread_create(&thread, NULL, configure_held, &held));
	pfd[0].fd = uffd;
	pfd[1].fd = held.finished[0];
	ASSERT_LT(0, poll(pfd, 2, PATIENCE_MS));
	if (!(pfd[0].revents & POLLIN)) {
		/* an architecture without may register what it then ignores */
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_EQ(0, held.ret);
		ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
		ASSERT_EQ(seq, held.config->diskseq);
		SKIP(return, "no userfaultfd that holds writes");
	}
	ASSERT_EQ(sizeof(msg), read(uffd, &msg, sizeof(msg)));

	/* No lock is held meanwhile: the device can be attached and detached. */
	ASSERT_EQ(0, loop_configure(self->lo.fd, other, 0));
	ASSERT_EQ(0, loop_detach(self->lo.fd));
	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &old));
	ASSERT_EQ(0, let_write(uffd, held.config));
	ASSERT_EQ(0, pthread_join(thread, NULL));

	ASSERT_EQ(0, held.ret);
	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &seq));
	EXPECT_GT(seq, old);
	EXPECT_EQ(seq, held.config->diskseq);
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));
	EXPECT_EQ(1, announced(&self->log, self->lo.name, seq));
	close(held.finished[0]);
	close(uffd);
	close(other);
	munmap(held.config, getpagesize());
}

/* Many attach to one device; whoever may, detaches. */
struct racer {
	const char *disk;
	int rounds;
	__u64 *told;		/* a number for each round, or 0 */
	int error;
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	int i, fd, image;

	image = backing_file(IMAGE_SIZE, false);
	fd = open_disk(racer->disk, O_RDWR);
	if (image < 0 || fd < 0) {
		racer->error = image < 0 ? image : fd;
		return NULL;
	}
	for (i = 0; i < racer->rounds; i++) {
		int ret = configure_told(fd, image, &racer->told[i]);

		if (ret) {
			racer->told[i] = 0;
			if (ret != -EBUSY)
				racer->error = ret;
		}
		/* of whoever has it: everybody has the disk open, so close it */
		ioctl(fd, LOOP_CLR_FD, 0);
		close(fd);
		fd = open_disk(racer->disk, O_RDWR);
		if (fd < 0) {
			racer->error = fd;
			break;
		}
	}
	if (fd >= 0)
		close(fd);
	close(image);
	return NULL;
}

TEST_F(configure, racing_callers_are_told_numbers_of_their_own)
{
	int i, j, rounds = test_rounds(200), successes = 0;
	struct racer racers[RACERS] = { };
	pthread_t threads[RACERS];
	__u64 old = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, diskseq_sysfs(self->lo.name, &old));
	loop_close(&self->lo);
	for (i = 0; i < RACERS; i++) {
		racers[i].disk = self->lo.name;
		racers[i].rounds = rounds;
		racers[i].told = calloc(rounds, sizeof(__u64));
		ASSERT_TRUE(!!racers[i].told);
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, race, &racers[i]));
	}
	for (i = 0; i < RACERS; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
		EXPECT_EQ(0, racers[i].error);
	}
	ASSERT_EQ(0, loop_open(&self->lo, O_RDWR));
	ASSERT_EQ(0, uevent_fence(self->nl, self->lo.name, &self->log));

	/* announced once: nobody else's medium has had the number */
	for (i = 0; i < RACERS; i++) {
		for (j = 0; j < rounds; j++) {
			__u64 told = racers[i].told[j];

			if (!told)
				continue;
			successes++;
			EXPECT_GT(told, old);
			EXPECT_EQ(1, announced(&self->log, self->lo.name, told));
		}
		free(racers[i].told);
	}
	EXPECT_LT(0, successes);
}

TEST_HARNESS_MAIN
