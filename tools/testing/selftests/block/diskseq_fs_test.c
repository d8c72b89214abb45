// SPDX-License-Identifier: GPL-2.0
/*
 * Loop devices in use by filesystems: the last user that detaches may be umount,
 * a file may lie on another loop device, LOOP_CHANGE_FD may exchange the file
 * under a mount. The numbers change as they do without a filesystem, nothing
 * becomes unreadable, and the locks that a mount and its loop device take are
 * taken in an order that lockdep has no objection to.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <linux/mount.h>

#include "diskseq.h"
#include "diskseq_medium.h"
#include "diskseq_watch.h"

#define PART_START	(1 * MB)
#define MOST_ROUNDS	100

/* How often is the text in the kernel's log, from where @kmsg stands? */
static int count_in_log(int kmsg, const char *text)
{
	char record[8192];
	int nr = 0;
	ssize_t len;

	while ((len = read(kmsg, record, sizeof(record) - 1)) > 0 ||
	       (len < 0 && errno == EPIPE)) {
		if (len < 0)
			continue;
		record[len] = '\0';
		if (strstr(record, text))
			nr++;
	}
	return nr;
}

static __u64 number_of(const struct loop *lo)
{
	__u64 seq = 0;

	return diskseq_sysfs(lo->name, &seq) ? 0 : seq;
}

FIXTURE(fs)
{
	const char *reason;
	struct medium m;
	struct watch w;
	int kmsg;
};

FIXTURE_VARIANT(fs)
{
	const struct fstype *type;
};

FIXTURE_VARIANT_ADD(fs, ext4)
{
	.type = &ext4,
};

FIXTURE_VARIANT_ADD(fs, ext4_external_journal)
{
	.type = &ext4_external_journal,
};

FIXTURE_VARIANT_ADD(fs, btrfs)
{
	.type = &btrfs,
};

FIXTURE_VARIANT_ADD(fs, xfs)
{
	.type = &xfs,
};

static const char *fs_unusable(const struct fstype *type)
{
	const char *const try[] = { type->mkfs[0], "-V", NULL };
	static char reason[64];

	if (loop_unusable())
		return loop_unusable();
	if (!have_filesystem(type->name))
		snprintf(reason, sizeof(reason), "needs %s", type->name);
	else if (run(try) == 127)
		snprintf(reason, sizeof(reason), "needs %s", type->mkfs[0]);
	else
		return NULL;
	return reason;
}

FIXTURE_SETUP(fs)
{
	medium_init(&self->m, variant->type, 0);
	self->w.nl = -1;
	self->kmsg = -1;
	self->reason = fs_unusable(variant->type);
	if (self->reason)
		return;
	ASSERT_EQ(0, make_base());
	ASSERT_EQ(0, watch_open(&self->w, NULL));
	self->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, self->kmsg);
	lseek(self->kmsg, 0, SEEK_END);
}

FIXTURE_TEARDOWN(fs)
{
	EXPECT_EQ(0, medium_destroy(&self->m));
	watch_close(&self->w);
	if (self->kmsg >= 0)
		close(self->kmsg);
}

/*
 * The disk, which had the number @old, has been detached. One log has the events of
 * all disks: those up to the last with the old number do not count. Where udev runs,
 * the last close may be its own.
 */
static void check_detached(struct __test_metadata *_metadata, struct watch *w,
			   const struct loop *lo, __u64 old)
{
	long long deadline = now_ms() + PATIENCE_MS;
	size_t i;

	while (udev_is_running() && number_of(lo) == old && now_ms() < deadline)
		nap();
	/* the fence would hide what comes too late */
	EXPECT_LT(old, number_of(lo));
	ASSERT_EQ(0, uevent_fence(w->nl, lo->name, &w->log));
	snprintf(w->name, sizeof(w->name), "%s", lo->name);
	w->mark = 0;
	w->known = 0;
	w->last_seen = 0;
	for (i = 0; i < w->log.nr; i++)
		if (uevent_is_own(&w->log.ev[i], w->name) &&
		    w->log.ev[i].diskseq <= old)
			w->mark = i + 1;
	check_change(_metadata, w, old, 1, ANY_PARTITIONS);
}

TEST_F(fs, umount_detaches_with_a_new_number)
{
	struct medium *m = &self->m;
	__u64 disk, journal = 0;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, medium_create(m, IMAGE_SIZE));
	ASSERT_EQ(0, medium_attach(m, LO_FLAGS_AUTOCLEAR));
	ASSERT_EQ(0, medium_mount(m, "", 0));
	disk = number_of(&m->lo);
	EXPECT_NE(0, disk);
	if (m->journal.nr >= 0)
		journal = number_of(&m->journal);
	ASSERT_EQ(0, write_payload(m->dir));
	/* a mounted filesystem is no change of the medium */
	EXPECT_EQ(disk, number_of(&m->lo));

	ASSERT_EQ(0, medium_umount(m));
	check_detached(_metadata, &self->w, &m->lo, disk);
	if (m->journal.nr >= 0)
		check_detached(_metadata, &self->w, &m->journal, journal);

	/* nor was anything lost */
	ASSERT_EQ(0, medium_attach(m, LO_FLAGS_AUTOCLEAR));
	ASSERT_EQ(0, medium_mount(m, "", 0));
	EXPECT_EQ(0, check_payload(m->dir));
}

/* What is cached would be readable anyway. */
static void forget_cached(void)
{
	write_text("/proc/sys/vm/drop_caches", "3");
}

TEST_F(fs, stays_readable_when_the_file_changes_under_it)
{
	struct medium *m = &self->m;
	int i, copy, rounds = test_rounds(MOST_ROUNDS);
	char path[128];
	__u64 old;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, medium_create(m, IMAGE_SIZE));
	ASSERT_EQ(0, medium_fill(m));
	snprintf(path, sizeof(path), "%s.copy", m->path);
	copy = make_file(path, IMAGE_SIZE);
	ASSERT_LE(0, copy);
	unlink(path);
	ASSERT_EQ(0, copy_image(m->image, copy, IMAGE_SIZE, 0));

	ASSERT_EQ(0, medium_attach(m, LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR));
	ASSERT_EQ(0, medium_mount(m, "", MS_RDONLY));
	ASSERT_EQ(0, loop_open(&m->lo, O_RDONLY));
	for (i = 0; i < rounds; i++) {
		old = number_of(&m->lo);
		ASSERT_EQ(0, ioctl(m->lo.fd, LOOP_CHANGE_FD,
				   i & 1 ? m->image : copy));
		EXPECT_GT(number_of(&m->lo), old);
		forget_cached();
		ASSERT_EQ(0, check_payload(m->dir));
	}
	EXPECT_EQ(0, count_in_log(self->kmsg, "busy inodes"));

	/* the filesystem was not the last to go */
	old = number_of(&m->lo);
	ASSERT_EQ(0, medium_umount(m));
	EXPECT_EQ(old, number_of(&m->lo));
	loop_close(&m->lo);
	check_detached(_metadata, &self->w, &m->lo, old);
	close(copy);
}

/* The filesystem would not find its files at the new offset. */
TEST_F(fs, keeps_the_offset_of_the_disk_that_it_is_on)
{
	struct medium *m = &self->m;
	struct loop_info64 info;
	__u64 seq;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, medium_create(m, IMAGE_SIZE));
	ASSERT_EQ(0, medium_fill(m));
	ASSERT_EQ(0, medium_attach(m, LO_FLAGS_AUTOCLEAR));
	ASSERT_EQ(0, medium_mount(m, "", MS_RDONLY));
	ASSERT_EQ(0, loop_open(&m->lo, O_RDWR));
	seq = number_of(&m->lo);
	snprintf(self->w.name, sizeof(self->w.name), "%s", m->lo.name);
	ASSERT_EQ(0, watch_settle(&self->w));

	ASSERT_EQ(0, loop_status(m->lo.fd, &info));
	info.lo_offset = MB;
	EXPECT_EQ(-1, ioctl(m->lo.fd, LOOP_SET_STATUS64, &info));
	EXPECT_EQ(EBUSY, errno);
	check_nothing(_metadata, &self->w, seq, false);
	forget_cached();
	EXPECT_EQ(0, check_payload(m->dir));
}

static int freeze(const char *dir, bool freeze)
{
	int ret, fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ret = ioctl(fd, freeze ? FIFREEZE : FITHAW, 0) ? -errno : 0;
	close(fd);
	return ret;
}

static void thaw(const char *dir)
{
	freeze(dir, false);
}

/* Another opener delays the detach, and so the write-back. */
TEST_F(fs, that_is_frozen_does_not_hold_up_a_detach_that_is_put_off)
{
	struct medium *m = &self->m;
	struct loop_info64 info;
	char path[80], page[PAGE];
	int file, opener, ret;
	struct loop lo;
	pid_t pid;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, medium_create(m, OUTER_SIZE));
	ASSERT_EQ(0, medium_attach(m, LO_FLAGS_AUTOCLEAR));
	ASSERT_EQ(0, medium_mount(m, "", 0));
	snprintf(path, sizeof(path), "%s/inner", m->dir);
	file = make_file(path, MB);
	ASSERT_LE(0, file);
	ASSERT_EQ(0, loop_create(&lo));
	ASSERT_EQ(0, loop_configure(lo.fd, file, 0));
	opener = open_disk(lo.name, O_RDONLY);
	ASSERT_LE(0, opener);
	/* there is something to write back */
	memset(page, 'x', sizeof(page));
	ASSERT_EQ(sizeof(page), pwrite(lo.fd, page, sizeof(page), 0));

	ASSERT_EQ(0, leftover_expect(m->dir, thaw));
	ASSERT_EQ(0, freeze(m->dir, true));
	pid = fork();
	if (!pid)
		_exit(ioctl(lo.fd, LOOP_CLR_FD, 0) ? errno : 0);
	ret = wait_for_exit(pid, PATIENCE_MS / 4);
	EXPECT_EQ(0, freeze(m->dir, false));
	leftover_gone(m->dir);
	EXPECT_EQ(0, ret) {
		TH_LOG("LOOP_CLR_FD waits for the filesystem of the file");
	}
	if (ret == -ETIMEDOUT)
		EXPECT_EQ(0, wait_for_exit(pid, PATIENCE_MS));

	/* marked, and detached at the last close, with what was written */
	ASSERT_EQ(0, loop_status(lo.fd, &info));
	EXPECT_NE(0, info.lo_flags & LO_FLAGS_AUTOCLEAR);
	loop_close(&lo);
	close(opener);
	memset(page, 0, sizeof(page));
	EXPECT_EQ(sizeof(page), pread(file, page, sizeof(page), 0));
	EXPECT_EQ('x', page[0]);
	EXPECT_EQ(0, loop_remove(lo.nr));
	close(file);
}

struct attach {
	pthread_t thread;
	pid_t tid;
	int fd;
	int file;
	int ret;
	bool started;
	bool done;
};

static void *attach_file(void *arg)
{
	struct attach *a = arg;

	a->tid = syscall(__NR_gettid);
	flag_set(&a->started);
	a->ret = ioctl(a->fd, LOOP_SET_FD, a->file) ? -errno : 0;
	flag_set(&a->done);
	return NULL;
}

/*
 * An attach for direct I/O first writes back what is dirty of the file, and waits
 * if that goes through a loop device to a filesystem that is frozen.
 */
TEST_F(fs, that_is_frozen_under_an_attach_does_not_hold_up_other_devices)
{
	struct medium *outer = &self->m, inner;
	struct loop lo, other;
	struct attach attach = {};
	char path[80], page[PAGE];
	int fd, image, ret;
	pid_t pid;

	SKIP_IF(return, self->reason);
	if (kernel_is_before(5, 12))
		SKIP(return, "one lock for all loop devices");

	ASSERT_EQ(0, medium_create(outer, OUTER_SIZE));
	ASSERT_EQ(0, medium_attach(outer, LO_FLAGS_AUTOCLEAR));
	ASSERT_EQ(0, medium_mount(outer, "", 0));
	medium_init(&inner, variant->type, 1);
	snprintf(inner.path, sizeof(inner.path), "%s/inner.img", outer->dir);
	ASSERT_EQ(0, medium_create(&inner, IMAGE_SIZE));
	ASSERT_EQ(0, medium_attach(&inner, LO_FLAGS_AUTOCLEAR));
	ASSERT_EQ(0, medium_mount(&inner, "", 0));
	image = backing_file(MB, false);
	ASSERT_LE(0, image);
	ASSERT_EQ(0, loop_create(&other));
	ASSERT_EQ(0, loop_configure(other.fd, image, 0));
	ASSERT_EQ(0, loop_create(&lo));

	snprintf(path, sizeof(path), "%s/file", inner.dir);
	fd = make_file(path, MB);
	ASSERT_LE(0, fd);
	memset(page, 'x', sizeof(page));
	ASSERT_EQ(sizeof(page), pwrite(fd, page, sizeof(page), 0));
	ASSERT_EQ(0, fsync(fd));
	ASSERT_EQ(sizeof(page), pwrite(fd, page, sizeof(page), 0));
	attach.fd = lo.fd;
	attach.file = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, attach.file);

	ASSERT_EQ(0, leftover_expect(outer->dir, thaw));
	ASSERT_EQ(0, freeze(outer->dir, true));
	EXPECT_EQ(0, pthread_create(&attach.thread, NULL, attach_file, &attach));
	while (!flag_is_set(&attach.started))
		nap();
	EXPECT_TRUE(wait_until_it_waits(attach.tid, &attach.done));
	pid = fork();
	if (!pid)
		_exit(ioctl(other.fd, LOOP_CLR_FD, 0) ? errno : 0);
	ret = wait_for_exit(pid, PATIENCE_MS / 4);
	EXPECT_EQ(0, freeze(outer->dir, false));
	leftover_gone(outer->dir);
	EXPECT_EQ(0, ret) {
		TH_LOG("LOOP_CLR_FD waits for the attach of another device");
	}
	if (ret == -ETIMEDOUT)
		EXPECT_EQ(0, wait_for_exit(pid, PATIENCE_MS));
	pthread_join(attach.thread, NULL);
	EXPECT_EQ(0, attach.ret);

	EXPECT_EQ(0, loop_destroy(&lo));
	EXPECT_EQ(0, loop_destroy(&other));
	close(attach.file);
	close(fd);
	close(image);
	EXPECT_EQ(0, medium_umount(&inner));
	EXPECT_EQ(0, medium_destroy(&inner));
}

/* The same from a partition, which is in use and therefore stays */
TEST_F(fs, stays_readable_on_a_partition_when_the_file_changes_under_it)
{
	const struct mbr_entry entry =
		MBR_ENTRY(TYPE_LINUX, PART_START / SECTOR, IMAGE_SIZE / SECTOR);
	struct medium *m = &self->m;
	int i, whole, images[2], rounds = test_rounds(MOST_ROUNDS);
	char path[128];
	__u64 old;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, medium_create(m, IMAGE_SIZE));
	ASSERT_EQ(0, medium_fill(m));
	whole = m->image;
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s.%d", m->path, i);
		images[i] = make_file(path, PART_START + IMAGE_SIZE);
		ASSERT_LE(0, images[i]);
		unlink(path);
		ASSERT_EQ(0, mbr_write(images[i], 0, &entry, 1));
		ASSERT_EQ(0, copy_image(whole, images[i], IMAGE_SIZE, PART_START));
	}

	m->image = images[0];
	ASSERT_EQ(0, medium_attach(m, LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR |
				   LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, medium_mount(m, "p1", MS_RDONLY));
	ASSERT_EQ(0, loop_open(&m->lo, O_RDONLY));
	for (i = 0; i < rounds; i++) {
		old = number_of(&m->lo);
		ASSERT_EQ(0, ioctl(m->lo.fd, LOOP_CHANGE_FD, images[!(i & 1)]));
		EXPECT_GT(number_of(&m->lo), old);
		forget_cached();
		ASSERT_EQ(0, check_payload(m->dir));
	}
	EXPECT_EQ(0, count_in_log(self->kmsg, "busy inodes"));

	old = number_of(&m->lo);
	loop_close(&m->lo);
	EXPECT_EQ(old, number_of(&m->lo));
	ASSERT_EQ(0, medium_umount(m));
	check_detached(_metadata, &self->w, &m->lo, old);
	close(images[1]);
	m->image = images[0];
	close(whole);
}

/* Lies as a file on a filesystem that is on a loop device itself */
TEST_F(fs, on_a_file_on_a_loop_device_detaches_before_that)
{
	struct medium *outer = &self->m, inner;
	__u64 old;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, medium_create(outer, OUTER_SIZE));
	ASSERT_EQ(0, medium_attach(outer, LO_FLAGS_AUTOCLEAR));
	ASSERT_EQ(0, medium_mount(outer, "", 0));

	medium_init(&inner, variant->type, 1);
	snprintf(inner.path, sizeof(inner.path), "%s/inner.img", outer->dir);
	EXPECT_EQ(0, medium_create(&inner, IMAGE_SIZE));
	EXPECT_EQ(0, medium_fill(&inner));
	EXPECT_EQ(0, medium_attach(&inner, LO_FLAGS_AUTOCLEAR));
	EXPECT_EQ(0, medium_mount(&inner, "", 0));
	EXPECT_EQ(0, check_payload(inner.dir));
	old = number_of(&inner.lo);
	close(inner.image);
	inner.image = -1;
	EXPECT_EQ(0, medium_umount(&inner));
	check_detached(_metadata, &self->w, &inner.lo, old);

	/* the inner file is closed: nothing keeps the outer filesystem busy */
	old = number_of(&outer->lo);
	EXPECT_EQ(0, syscall(__NR_umount2, outer->dir, 0));
	outer->mounted = false;
	check_detached(_metadata, &self->w, &outer->lo, old);
	EXPECT_EQ(0, medium_destroy(&inner));
}

/* A loop device whose file is another one: umount detaches both. */
TEST_F(fs, on_a_loop_device_on_another_detaches_both)
{
	struct medium *m = &self->m;
	struct loop lower;
	__u64 upper_old, lower_old;
	int whole;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, medium_create(m, IMAGE_SIZE));
	ASSERT_EQ(0, loop_create(&lower));
	EXPECT_EQ(0, loop_configure(lower.fd, m->image, LO_FLAGS_AUTOCLEAR));
	whole = m->image;
	m->image = lower.fd;
	EXPECT_EQ(0, medium_attach(m, LO_FLAGS_AUTOCLEAR));
	m->image = whole;
	EXPECT_EQ(0, medium_mount(m, "", 0));
	loop_close(&lower);
	EXPECT_EQ(0, write_payload(m->dir));
	upper_old = number_of(&m->lo);
	lower_old = number_of(&lower);
	EXPECT_EQ(0, medium_umount(m));
	check_detached(_metadata, &self->w, &m->lo, upper_old);
	check_detached(_metadata, &self->w, &lower, lower_old);
	EXPECT_EQ(0, loop_remove(lower.nr));
}

/* Other programs that attach and detach the same device and another meanwhile */
struct rival {
	pthread_t thread;
	const char *name;
	int image;
	const bool *stop;
	unsigned int attached;
	unsigned int busy;
	int error;
};

static void *attach_and_detach(void *arg)
{
	struct rival *r = arg;

	while (!r->error && !flag_is_set(r->stop)) {
		int ret, fd = open_disk(r->name, O_RDWR);

		/* since v6.11 a disk that is being detached is not opened */
		if (fd == -ENXIO) {
			nap();
			continue;
		}
		if (fd < 0) {
			r->error = fd;
			break;
		}
		ret = loop_configure(fd, r->image, 0);
		if (!ret) {
			r->attached++;
			ret = loop_detach(fd);
		} else if (ret == -EBUSY) {
			/* in use by the other: this detaches at the last close */
			r->busy++;
			ret = ioctl(fd, LOOP_CLR_FD, 0) ? -errno : 0;
		}
		/* the other was faster and has detached it */
		if (ret && ret != -ENXIO)
			r->error = ret;
		close(fd);
		/* the other needs a turn, too */
		nap();
	}
	return NULL;
}

TEST_F_TIMEOUT(fs, mounts_and_umounts_while_others_attach_and_detach, 300)
{
	struct medium *m = &self->m;
	struct rival rivals[2] = {};
	int i, ret = 0, small, rounds = test_rounds(MOST_ROUNDS) / 4;
	long long deadline = now_ms() + 10 * PATIENCE_MS;
	const char *failed = "";
	struct loop other;
	bool stop = false;
	__u64 old;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, medium_create(m, IMAGE_SIZE));
	ASSERT_EQ(0, medium_fill(m));
	small = backing_file(MB, false);
	ASSERT_LE(0, small);
	ASSERT_EQ(0, loop_create(&other));
	loop_close(&other);
	loop_close(&m->lo);
	old = number_of(&m->lo);
	EXPECT_NE(0, old);
	for (i = 0; i < 2; i++) {
		rivals[i].name = i ? other.name : m->lo.name;
		rivals[i].image = small;
		rivals[i].stop = &stop;
		EXPECT_EQ(0, pthread_create(&rivals[i].thread, NULL,
					    attach_and_detach, &rivals[i]));
	}
	for (i = 0; !ret && i < rounds; i++) {
		failed = "attach";
		while (((ret = medium_attach(m, LO_FLAGS_AUTOCLEAR)) == -EBUSY ||
			ret == -ENXIO) && now_ms() < deadline) {
			loop_close(&m->lo);
			nap();
		}
		if (ret)
			break;
		failed = "mount";
		ret = medium_mount(m, "", 0);
		if (ret)
			break;
		failed = "read";
		ret = check_payload(m->dir);
		if (!ret) {
			failed = "write";
			ret = write_payload(m->dir);
		}
		if (ret)
			break;
		failed = "umount";
		ret = medium_umount(m);
	}
	flag_set(&stop);
	for (i = 0; i < 2; i++)
		pthread_join(rivals[i].thread, NULL);
	EXPECT_EQ(0, ret) {
		TH_LOG("%s: %s", failed, strerror(-ret));
	}
	TH_LOG("%d rounds; the others: %u times attached, %u times not", rounds,
	       rivals[0].attached, rivals[0].busy);
	EXPECT_EQ(0, rivals[0].error);
	EXPECT_EQ(0, rivals[1].error);
	EXPECT_LT(0, rivals[1].attached);
	/* two for each attach and detach */
	EXPECT_LE(old + 2 * rounds, number_of(&m->lo));
	EXPECT_EQ(0, loop_remove(other.nr));
	close(small);
}

TEST_HARNESS_MAIN
