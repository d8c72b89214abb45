// SPDX-License-Identifier: GPL-2.0
/*
 * An operation that changes the medium, or makes a disk, in want of memory: its
 * first allocation (or copy from user space, or read of the disk) fails, then
 * its second one, and so on until there is none left to fail. It fails as a
 * whole then, and leaves number and events alone, or succeeds as a whole.
 *
 * One exception: an event that finds no memory is lost.
 */
#define _GNU_SOURCE
#include "diskseq.h"
#include "diskseq_partition.h"
#include "diskseq_target.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define DEBUGFS		"/sys/kernel/debug/"
#define IMAGE_SIZE	(1024 * 1024)
#define MOST		2000	/* no operation does so many things */

#ifndef SOL_NETLINK
#define SOL_NETLINK	270
#endif

/* Also inject faults that are exempt by default, and log none of them. */
static const char *const settings[][2] = {
	{ DEBUGFS "failslab/ignore-gfp-wait", "N" },
	{ DEBUGFS "failslab/verbose", "0" },
	{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" },
	{ DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N" },
	{ DEBUGFS "fail_page_alloc/min-order", "0" },
	{ DEBUGFS "fail_page_alloc/verbose", "0" },
	{ DEBUGFS "fail_usercopy/verbose", "0" },
	{ DEBUGFS "fail_make_request/verbose", "0" },
};

static const char *faults_unusable(void)
{
	size_t i;

	if (access(FAIL_NTH, W_OK))
		return "needs CONFIG_FAULT_INJECTION";
	/* an opener puts off a detach */
	if (udev_is_running())
		return "needs a machine without udev";
	/* a page fault that finds no memory is not what this is about */
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		return "needs to lock its memory";
	syscall(__NR_mount, "debugfs", DEBUGFS, "debugfs", 0UL, NULL);
	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		/* without two of them there is not much to fail */
		if (setting_change(settings[i][0], settings[i][1]) &&
		    strstr(settings[i][0], "ignore-gfp-wait"))
			return "needs the settings of failslab and fail_page_alloc in debugfs";
	}
	return NULL;
}

static void faults_restore(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(settings); i++)
		setting_restore(settings[i][0]);
}

/* From now on the @nth thing that this thread asks of the kernel fails. */
static int fault_arm(int fd, unsigned int nth)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", nth);
	return pwrite(fd, text, strlen(text), 0) < 0 ? -errno : 0;
}

/* Was the fault injected? Disarm it in any case. */
static bool fault_disarm(int fd)
{
	char text[16];
	bool happened;

	/* reading copies, and may be what fails: then nothing had before */
	happened = pread(fd, text, sizeof(text), 0) > 0 && text[0] == '0';
	while (pwrite(fd, "0", 1, 0) < 0 && errno == EFAULT)
		;
	return happened;
}

/* A lost event must not cause the loss of others. */
static void allow_losses(int nl)
{
	int on = 1;

	setsockopt(nl, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof(on));
}

struct victim {
	struct target t;
	int fail;
	unsigned int flags;
};

struct operation {
	bool from_bound;	/* it wants a disk with a file */
	bool to_bound;
	bool reads;		/* and changes nothing */
	int (*run)(struct victim *v);
};

static int by_configure(struct victim *v)
{
	return loop_configure(v->t.lo.fd, v->t.image, v->flags);
}

static int by_set_fd(struct victim *v)
{
	return ioctl(v->t.lo.fd, LOOP_SET_FD, v->t.image) ? -errno : 0;
}

static int by_change_fd(struct victim *v)
{
	return ioctl(v->t.lo.fd, LOOP_CHANGE_FD, v->t.other) ? -errno : 0;
}

static int by_clr_fd(struct victim *v)
{
	return ioctl(v->t.lo.fd, LOOP_CLR_FD, 0) ? -errno : 0;
}

static int by_close(struct victim *v)
{
	loop_close(&v->t.lo);
	return 0;
}

static __u64 number_read;

static int read_by_sysfs(struct victim *v)
{
	return diskseq_sysfs(v->t.lo.name, &number_read);
}

static int read_by_uevent_file(struct victim *v)
{
	return diskseq_uevent_file(v->t.lo.name, &number_read);
}

static const struct operation op_configure = {
	.run = by_configure,
	.to_bound = true,
};

static const struct operation op_set_fd = {
	.run = by_set_fd,
	.to_bound = true,
};

static const struct operation op_change_fd = {
	.run = by_change_fd,
	.from_bound = true,
	.to_bound = true,
};

static const struct operation op_clr_fd = {
	.run = by_clr_fd,
	.from_bound = true,
};

static const struct operation op_autoclear = {
	.run = by_close,
	.from_bound = true,
};

static const struct operation op_sysfs = {
	.run = read_by_sysfs,
	.reads = true,
};

static const struct operation op_uevent_file = {
	.run = read_by_uevent_file,
	.reads = true,
};

FIXTURE(faults)
{
	const char *reason;
	struct victim v;
};

FIXTURE_VARIANT(faults)
{
	const struct operation *op;
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(faults, configure)
{
	.op = &op_configure,
};

FIXTURE_VARIANT_ADD(faults, configure_partscan)
{
	.op = &op_configure,
	.flags = LO_FLAGS_PARTSCAN,
};

FIXTURE_VARIANT_ADD(faults, set_fd)
{
	.op = &op_set_fd,
};

FIXTURE_VARIANT_ADD(faults, change_fd)
{
	.op = &op_change_fd,
	.flags = LO_FLAGS_READ_ONLY,
};

FIXTURE_VARIANT_ADD(faults, change_fd_partscan)
{
	.op = &op_change_fd,
	.flags = LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN,
};

FIXTURE_VARIANT_ADD(faults, clr_fd)
{
	.op = &op_clr_fd,
};

FIXTURE_VARIANT_ADD(faults, clr_fd_partscan)
{
	.op = &op_clr_fd,
	.flags = LO_FLAGS_PARTSCAN,
};

FIXTURE_VARIANT_ADD(faults, autoclear_partscan)
{
	.op = &op_autoclear,
	.flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN,
};

FIXTURE_VARIANT_ADD(faults, read_by_sysfs)
{
	.op = &op_sysfs,
};

FIXTURE_VARIANT_ADD(faults, read_by_uevent_file)
{
	.op = &op_uevent_file,
};

FIXTURE_SETUP(faults)
{
	struct victim *v = &self->v;
	char path[128];

	v->fail = -1;
	self->reason = target_init(&v->t);
	if (!self->reason && variant->op == &op_clr_fd)
		self->reason = loop_detach_unusable();
	if (!self->reason)
		self->reason = faults_unusable();
	if (self->reason)
		return;
	v->flags = variant->flags;
	v->fail = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, v->fail);
	ASSERT_EQ(0, target_create_with_files(&v->t, IMAGE_SIZE, true, true));
	allow_losses(v->t.w.nl);
	disk_path(path, v->t.lo.name, "make-it-fail");
	write_text(path, "1");
}

FIXTURE_TEARDOWN(faults)
{
	struct victim *v = &self->v;

	faults_restore();
	EXPECT_EQ(0, target_destroy(&v->t));
	if (v->fail >= 0)
		close(v->fail);
}

static long capacity(struct victim *v)
{
	char path[128], text[32];

	disk_path(path, v->t.lo.name, "size");
	return read_text(path, text, sizeof(text)) ? -1 : atol(text);
}

/* How things are before the operation: with its file, or without. */
static int prepare(struct victim *v, const struct operation *op)
{
	int ret = 0;

	if (v->t.lo.fd < 0)
		ret = loop_open(&v->t.lo, O_RDWR);
	if (!ret && loop_is_bound(v->t.lo.fd))
		ret = loop_detach(v->t.lo.fd);
	if (!ret && op->from_bound)
		ret = loop_configure(v->t.lo.fd, v->t.image, v->flags);
	return ret;
}

/* All events so far */
static int catch_up(struct victim *v, size_t *from)
{
	*from = v->t.w.mark;
	if (uevent_fence(v->t.w.nl, v->t.lo.name, &v->t.w.log))
		return -EIO;
	v->t.w.mark = v->t.w.log.nr;
	return 0;
}

static void check_failure(struct __test_metadata *_metadata, struct victim *v,
			  const struct operation *op, __u64 old, size_t from)
{
	__u64 now = 0;
	size_t i;

	EXPECT_EQ(0, diskseq_sysfs(v->t.lo.name, &now));
	EXPECT_EQ(old, now);
	EXPECT_EQ(0, diskseq_ioctl(v->t.lo.fd, &now));
	EXPECT_EQ(old, now);
	for (i = from; i < v->t.w.mark; i++)
		EXPECT_FALSE(uevent_is_own(&v->t.w.log.ev[i], v->t.lo.name));
	EXPECT_EQ(op->from_bound, loop_is_bound(v->t.lo.fd));
	EXPECT_EQ(op->from_bound ? IMAGE_SIZE >> 9 : 0, capacity(v));
	if (!op->from_bound)
		EXPECT_EQ(0, count_partitions(v->t.lo.name, 0));
}

static void check_success(struct __test_metadata *_metadata, struct victim *v,
			  const struct operation *op, __u64 old, size_t from,
			  unsigned int lost)
{
	bool one = !op->from_bound && op->to_bound && attach_may_be_plain();
	unsigned int whole = 0, media = 0, plain = 0;
	__u64 by_sysfs = 0, by_ioctl = 0, highest = old, last = 0;
	size_t i;

	EXPECT_EQ(0, diskseq_sysfs(v->t.lo.name, &by_sysfs));
	if (v->t.lo.fd < 0)
		ASSERT_EQ(0, loop_open(&v->t.lo, O_RDWR));
	EXPECT_EQ(0, diskseq_ioctl(v->t.lo.fd, &by_ioctl));
	EXPECT_GT(by_sysfs, old);
	EXPECT_EQ(by_sysfs, by_ioctl);
	for (i = from; i < v->t.w.mark; i++) {
		const struct uevent *ev = &v->t.w.log.ev[i];

		if (!uevent_is_own(ev, v->t.lo.name))
			continue;
		EXPECT_LE(highest, ev->diskseq);
		highest = ev->diskseq;
		if (ev->partition)
			continue;
		last = ev->diskseq;
		if (ev->diskseq != by_sysfs)
			continue;
		whole++;
		media += ev->media_change;
		plain += uevent_is_plain_change(ev);
	}
	EXPECT_LE(one ? 1 : 2, whole + lost);
	EXPECT_LE(one ? 0 : 1, media + lost);
	EXPECT_LE(1, plain + lost);
	if (last)
		EXPECT_EQ(by_sysfs, last);
	EXPECT_EQ(op->to_bound, loop_is_bound(v->t.lo.fd));
	EXPECT_EQ(op->to_bound ? IMAGE_SIZE >> 9 : 0, capacity(v));
	if (!op->to_bound)
		EXPECT_EQ(0, count_partitions(v->t.lo.name, 0));
}

TEST_F_TIMEOUT(faults, make_it_fail_or_succeed_as_a_whole, 300)
{
	const struct operation *op = variant->op;
	struct victim *v = &self->v;
	unsigned int nth, faults = 0, failures = 0;
	bool happened = true;
	size_t from;
	__u64 old;
	int ret;

	SKIP_IF(return, self->reason);

	for (nth = 1; happened && nth < MOST; nth++) {
		ASSERT_EQ(0, prepare(v, op));
		ASSERT_EQ(0, catch_up(v, &from));
		ASSERT_EQ(0, diskseq_sysfs(v->t.lo.name, &old));

		ASSERT_EQ(0, fault_arm(v->fail, nth));
		ret = op->run(v);
		happened = fault_disarm(v->fail);
		faults += happened;

		ASSERT_EQ(0, catch_up(v, &from));
		if (op->reads && !ret)
			EXPECT_EQ(old, number_read);
		if (ret || op->reads)
			check_failure(_metadata, v, op, old, from);
		else
			check_success(_metadata, v, op, old, from, happened);
		if (!ret)
			continue;
		failures++;
		EXPECT_TRUE(happened) {
			TH_LOG("fails of its own: %s", strerror(-ret));
		}
		/* and works if asked again */
		EXPECT_EQ(0, op->run(v));
	}
	TH_LOG("%u faults, %u failures", faults, failures);
	EXPECT_FALSE(happened);
	EXPECT_LT(0, faults);
}

/* Has a fault since the last call been within @function? See its trace. */
static bool was_within(int kmsg, const char *function)
{
	char record[8192];
	bool found = false;
	ssize_t len;

	while ((len = read(kmsg, record, sizeof(record) - 1)) > 0 ||
	       (len < 0 && errno == EPIPE)) {
		if (len < 0)
			continue;
		record[len] = '\0';
		found |= !!strstr(record, function);
	}
	return found;
}

/*
 * LOOP_CTL_ADD, up to where the disk has been allocated and numbered: what comes
 * then, add_disk(), can't fail. It warns instead where it had no memory for
 * something that matters, hence this ends with the last thing that is allocated
 * with the disk, and which the kernel can do without.
 */
FIXTURE(adding)
{
	const char *reason;
};

FIXTURE_SETUP(adding)
{
	self->reason = loop_unusable();
	if (!self->reason)
		self->reason = faults_unusable();
}

FIXTURE_TEARDOWN(adding)
{
	faults_restore();
}

TEST_F_TIMEOUT(adding, that_fails_assigns_nothing, 300)
{
	struct uevent_log log = {};
	int nl, fail, control, kmsg, nr, ret;
	unsigned int nth, faults = 0, failures = 0;
	struct loop before, after;
	__u64 old, new;
	char path[64];
	bool happened, numbered = false;

	SKIP_IF(return, self->reason);

	fail = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fail);
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, control);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, kmsg);
	lseek(kmsg, 0, SEEK_END);
	ASSERT_EQ(0, setting_change(DEBUGFS "failslab/verbose", "2"));
	ASSERT_EQ(0, setting_change(DEBUGFS "fail_page_alloc/verbose", "2"));
	nl = uevent_open();
	ASSERT_LE(0, nl);
	allow_losses(nl);
	/* a number that no device has */
	ASSERT_EQ(0, loop_create(&after));
	nr = after.nr;
	ASSERT_EQ(0, loop_destroy(&after));
	snprintf(path, sizeof(path), "/sys/block/loop%d", nr);
	for (nth = 1; !numbered && nth < MOST; nth++) {
		ASSERT_EQ(nr + 1, loop_add_nr(nr + 1));
		snprintf(before.name, sizeof(before.name), "loop%d", nr + 1);
		EXPECT_EQ(0, diskseq_sysfs(before.name, &old));

		ASSERT_EQ(0, fault_arm(fail, nth));
		ret = ioctl(control, LOOP_CTL_ADD, nr) < 0 ? -errno : 0;
		happened = fault_disarm(fail);
		faults += happened;
		numbered = was_within(kmsg, "rand_initialize_disk");

		if (ret) {
			failures++;
			EXPECT_TRUE(happened);
			EXPECT_NE(0, access(path, F_OK));
			/* and works if asked again */
			EXPECT_EQ(nr, loop_add_nr(nr));
		} else {
			loop_mark(nr, true);
		}
		snprintf(after.name, sizeof(after.name), "loop%d", nr);
		EXPECT_EQ(0, diskseq_sysfs(after.name, &new));
		EXPECT_GT(new, old);
		ASSERT_EQ(0, uevent_fence(nl, after.name, &log));
		EXPECT_EQ(0, uevent_unaccounted(nl, &log, old, new));
		EXPECT_EQ(0, loop_remove(nr));
		EXPECT_EQ(0, loop_remove(nr + 1));
	}
	TH_LOG("%u faults, %u failures", faults, failures);
	EXPECT_LT(0, failures);
	EXPECT_TRUE(numbered);
	EXPECT_EQ(0, ret);
	close(kmsg);
	close(nl);
	close(control);
	close(fail);
	free(log.ev);
}

TEST_HARNESS_MAIN
