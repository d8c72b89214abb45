// SPDX-License-Identifier: GPL-2.0
/*
 * Loop devices in use by filesystems: the last user that detaches may be umount,
 * a file may lie on another loop device, LOOP_CHANGE_FD may exchange the file
 * under a mount. The numbers change as they do without a filesystem, nothing
 * becomes unreadable, and the locks that a mount and its loop device take are
 * taken in an order that lockdep has no objection to.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <pthread.h>
#include <linux/mount.h>

#include "../kselftest_harness.h"
#include "diskseq.h"

#define MB		(1024 * 1024)
#define IMAGE_SIZE	(32 * MB)
#define OUTER_SIZE	(96 * MB)	/* has room for a file of IMAGE_SIZE */
#define JOURNAL_SIZE	(8 * MB)
#define PART_START	(1 * MB)
#define PAYLOAD		(256 * 1024)
#define MOST_ROUNDS	100

struct fstype {
	const char *name;
	const char *mkfs[8];
	bool external_journal;
};

static const struct fstype ext4 = {
	.name = "ext4",
	.mkfs = { "mkfs.ext4", "-q", "-F", "-b", "4096" },
};

static const struct fstype ext4_external_journal = {
	.name = "ext4",
	.mkfs = { "mkfs.ext4", "-q", "-F", "-b", "4096" },
	.external_journal = true,
};

static const struct fstype btrfs = {
	.name = "btrfs",
	.mkfs = { "mkfs.btrfs", "-q", "-f", "-M" },
};

static const struct fstype xfs = {
	.name = "xfs",
	.mkfs = { "mkfs.xfs", "-q", "-f" },
};

/* Returns the program's exit status, or 127. */
static int run(const char *const argv[])
{
	int status, null;
	pid_t pid;

	pid = fork();
	if (!pid) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		/* the size is one that mkfs.xfs would refuse to all but testers */
		setenv("TEST_DIR", "/", 1);
		setenv("TEST_DEV", "/", 1);
		setenv("QA_CHECK_FS", "1", 1);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 127;
	return WEXITSTATUS(status);
}

static int mkfs(const struct fstype *type, const char *option,
		const char *value, const char *path)
{
	const char *argv[12];
	int n;

	for (n = 0; type->mkfs[n]; n++)
		argv[n] = type->mkfs[n];
	if (option) {
		argv[n++] = option;
		argv[n++] = value;
	}
	argv[n++] = path;
	argv[n] = NULL;
	return run(argv) ? -EIO : 0;
}

static int do_mount(const char *source, const char *dir, const char *type,
		    unsigned long flags, const char *options)
{
	return syscall(__NR_mount, source, dir, type, flags, options) ? -errno : 0;
}

/* Somebody may look into it for a moment. */
static int do_umount(const char *dir)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (syscall(__NR_umount2, dir, 0)) {
		if (errno != EBUSY || now_ms() > deadline)
			return -errno;
		nap();
	}
	return 0;
}

static bool have_filesystem(const char *name)
{
	char line[64], *type;
	bool found = false;
	FILE *f;

	load_module(name, NULL);
	f = fopen("/proc/filesystems", "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		type = strrchr(line, '\t');
		found = type && !strncmp(type + 1, name, strlen(name)) &&
			type[1 + strlen(name)] == '\n';
	}
	if (f)
		fclose(f);
	return found;
}

static int make_file(const char *path, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, size)) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

/* What is zero stays a hole. */
static int copy_image(int from, int to, off_t size, off_t shift)
{
	static const char zeroes[64 * 1024];
	char buf[sizeof(zeroes)];
	off_t at;

	for (at = 0; at < size; at += sizeof(buf)) {
		if (pread(from, buf, sizeof(buf), at) != sizeof(buf))
			return -EIO;
		if (!memcmp(buf, zeroes, sizeof(buf)))
			continue;
		if (pwrite(to, buf, sizeof(buf), at + shift) != sizeof(buf))
			return -EIO;
	}
	return 0;
}

static int write_payload(const char *dir)
{
	char path[128], *buf;
	int i, fd, ret = 0;

	snprintf(path, sizeof(path), "%s/payload", dir);
	buf = malloc(PAYLOAD);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (!buf || fd < 0) {
		ret = -EIO;
	} else {
		for (i = 0; i < PAYLOAD; i++)
			buf[i] = i % 251;
		if (write(fd, buf, PAYLOAD) != PAYLOAD || fsync(fd))
			ret = -EIO;
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	return ret;
}

static int check_payload(const char *dir)
{
	char path[128], *buf;
	int i, fd, ret = 0;

	snprintf(path, sizeof(path), "%s/payload", dir);
	buf = malloc(PAYLOAD);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		ret = -errno;
	else if (!buf || read(fd, buf, PAYLOAD) != PAYLOAD)
		ret = -EIO;
	for (i = 0; !ret && i < PAYLOAD; i++)
		if (buf[i] != (char)(i % 251))
			ret = -EILSEQ;
	if (fd >= 0)
		close(fd);
	free(buf);
	return ret;
}

/* How often does the kernel's log say so from where @kmsg stands? */
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

/* A filesystem on a loop device */
struct medium {
	const struct fstype *type;
	struct loop lo;
	struct loop journal;	/* the external one */
	char path[64];		/* of its image */
	char journal_path[64];
	char dir[48];		/* where it is mounted */
	char options[64];
	int image;
	int journal_image;
	bool mounted;
};

/*
 * Where images lie and are mounted: a filesystem of its own, whose umount takes
 * along what a failed test has left behind.
 */
static char base[32];

static int make_base(void)
{
	if (mkdir(base, 0700))
		return errno == EEXIST ? 0 : -errno;
	return do_mount("diskseq", base, "tmpfs", 0, NULL);
}

static void remove_base(void)
{
	syscall(__NR_umount2, base, 2 /* MNT_DETACH */);
	rmdir(base);
}

static __attribute__((constructor)) void base_init(void)
{
	snprintf(base, sizeof(base), "/tmp/diskseq-fs-%d", getpid());
	atexit(remove_base);
}

static void medium_init(struct medium *m, const struct fstype *type, int nr)
{
	memset(m, 0, sizeof(*m));
	m->type = type;
	m->lo.nr = -1;
	m->lo.fd = -1;
	m->journal.nr = -1;
	m->journal.fd = -1;
	m->image = -1;
	m->journal_image = -1;
	/* no name that an earlier test had, which may have left something */
	nr += 2 * getpid();
	snprintf(m->path, sizeof(m->path), "%s/image%d", base, nr);
	snprintf(m->journal_path, sizeof(m->journal_path), "%s/journal%d", base, nr);
	snprintf(m->dir, sizeof(m->dir), "%s/mnt%d", base, nr);
}

/* The journal's device is written into the filesystem: it has to be there. */
static int make_external_journal(struct medium *m)
{
	char device[64];
	int ret;

	m->journal_image = make_file(m->journal_path, JOURNAL_SIZE);
	if (m->journal_image < 0)
		return m->journal_image;
	ret = mkfs(m->type, "-O", "journal_dev", m->journal_path);
	if (!ret)
		ret = loop_create(&m->journal);
	if (!ret)
		ret = loop_configure(m->journal.fd, m->journal_image, 0);
	if (ret)
		return ret;
	snprintf(device, sizeof(device), "device=/dev/%s", m->journal.name);
	ret = mkfs(m->type, "-J", device, m->path);
	snprintf(m->options, sizeof(m->options), "journal_path=/dev/%s",
		 m->journal.name);
	return loop_detach(m->journal.fd) ? -EIO : ret;
}

/* Make the image, in which there is nothing yet, and the loop devices. */
static int medium_create(struct medium *m, off_t size)
{
	int ret;

	if (mkdir(m->dir, 0700))
		return -errno;
	m->image = make_file(m->path, size);
	if (m->image < 0)
		return m->image;
	ret = m->type->external_journal ? make_external_journal(m) :
	      mkfs(m->type, NULL, NULL, m->path);
	if (ret)
		return ret;
	return loop_create(&m->lo);
}

/* Attach it, with its journal; the first may be busy. */
static int medium_attach(struct medium *m, unsigned int flags)
{
	int ret;

	if (m->lo.fd < 0) {
		ret = loop_open(&m->lo, O_RDWR);
		if (ret)
			return ret;
	}
	ret = loop_configure(m->lo.fd, m->image, flags);
	if (ret || m->journal.nr < 0)
		return ret;
	if (m->journal.fd < 0) {
		ret = loop_open(&m->journal, O_RDWR);
		if (ret)
			return ret;
	}
	return loop_configure(m->journal.fd, m->journal_image, flags);
}

/* Mount it, or a partition of it; from then on that alone holds it open. */
static int medium_mount(struct medium *m, const char *partition,
			unsigned long flags)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/dev/%s%s", m->lo.name, partition);
	ret = do_mount(path, m->dir, m->type->name, flags, m->options);
	if (ret)
		return ret;
	m->mounted = true;
	loop_close(&m->lo);
	loop_close(&m->journal);
	return 0;
}

static int medium_umount(struct medium *m)
{
	int ret = do_umount(m->dir);

	if (!ret)
		m->mounted = false;
	return ret;
}

/* Write something into the filesystem, and leave it clean. */
static int medium_fill(struct medium *m)
{
	int ret;

	ret = medium_attach(m, LO_FLAGS_AUTOCLEAR);
	if (ret)
		return ret;
	ret = medium_mount(m, "", 0);
	if (ret)
		return ret;
	ret = write_payload(m->dir);
	return medium_umount(m) ? -EBUSY : ret;
}

static int medium_destroy(struct medium *m)
{
	int ret = 0;

	if (m->mounted)
		ret = medium_umount(m);
	if (m->lo.nr >= 0 && (m->lo.fd >= 0 || !loop_open(&m->lo, O_RDONLY)))
		ret |= loop_destroy(&m->lo);
	if (m->journal.nr >= 0 &&
	    (m->journal.fd >= 0 || !loop_open(&m->journal, O_RDONLY)))
		ret |= loop_destroy(&m->journal);
	if (m->image >= 0)
		close(m->image);
	if (m->journal_image >= 0)
		close(m->journal_image);
	unlink(m->path);
	unlink(m->journal_path);
	rmdir(m->dir);
	return ret;
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
	struct uevent_log log;
	int nl;
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
	memset(&self->log, 0, sizeof(self->log));
	self->nl = -1;
	self->kmsg = -1;
	self->reason = fs_unusable(variant->type);
	if (self->reason)
		return;
	ASSERT_EQ(0, make_base());
	self->nl = uevent_open();
	ASSERT_LE(0, self->nl);
	self->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, self->kmsg);
	lseek(self->kmsg, 0, SEEK_END);
}

FIXTURE_TEARDOWN(fs)
{
	EXPECT_EQ(0, medium_destroy(&self->m));
	if (self->nl >= 0)
		close(self->nl);
	if (self->kmsg >= 0)
		close(self->kmsg);
	free(self->log.ev);
}

/*
 * The disk, which had the number @old, has been detached: one new number, told
 * by two events. With udev about, the last close may be its own.
 */
static void check_detached(struct __test_metadata *_metadata, int nl,
			   struct uevent_log *log, const struct loop *lo,
			   __u64 old)
{
	long long deadline = now_ms() + PATIENCE_MS;
	unsigned int media = 0, plain = 0;
	__u64 now, last = 0;
	size_t i;

	while (udev_is_running() && number_of(lo) == old && now_ms() < deadline)
		nap();
	now = number_of(lo);
	EXPECT_GT(now, old);
	ASSERT_EQ(0, uevent_fence(nl, lo->name, log));
	for (i = 0; i < log->nr; i++) {
		const struct uevent *ev = &log->ev[i];

		if (!uevent_is_own(ev, lo->name) || ev->partition ||
		    ev->diskseq <= old)
			continue;
		last = ev->diskseq;
		if (ev->media_change)
			media++;
		else if (media && uevent_is_plain_change(ev))
			plain++;
	}
	EXPECT_EQ(1, media);
	EXPECT_LE(1, plain);
	EXPECT_EQ(now, last);
}

TEST_F(fs, umount_detaches_with_a_new_number)
{
	struct medium *m = &self->m;
	__u64 disk, journal = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
	check_detached(_metadata, self->nl, &self->log, &m->lo, disk);
	if (m->journal.nr >= 0)
		check_detached(_metadata, self->nl, &self->log, &m->journal, journal);

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

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
	check_detached(_metadata, self->nl, &self->log, &m->lo, old);
	close(copy);
}

/* Its files would be somewhere else. */
TEST_F(fs, keeps_the_offset_of_the_disk_that_it_is_on)
{
	struct medium *m = &self->m;
	struct loop_info64 info;
	__u64 seq;
	size_t i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, medium_create(m, IMAGE_SIZE));
	ASSERT_EQ(0, medium_fill(m));
	ASSERT_EQ(0, medium_attach(m, LO_FLAGS_AUTOCLEAR));
	ASSERT_EQ(0, medium_mount(m, "", MS_RDONLY));
	ASSERT_EQ(0, loop_open(&m->lo, O_RDWR));
	seq = number_of(&m->lo);
	ASSERT_EQ(0, uevent_fence(self->nl, m->lo.name, &self->log));
	self->log.nr = 0;

	ASSERT_EQ(0, loop_status(m->lo.fd, &info));
	info.lo_offset = MB;
	EXPECT_EQ(-1, ioctl(m->lo.fd, LOOP_SET_STATUS64, &info));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(seq, number_of(&m->lo));
	ASSERT_EQ(0, uevent_fence(self->nl, m->lo.name, &self->log));
	for (i = 0; i < self->log.nr; i++)
		EXPECT_FALSE(uevent_is_own(&self->log.ev[i], m->lo.name));
	forget_cached();
	EXPECT_EQ(0, check_payload(m->dir));
}

/* Wait for a process, but not for one that the kernel does not let go of. */
static int wait_for_exit(pid_t pid, int timeout_ms)
{
	long long deadline = now_ms() + timeout_ms;
	int status;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		nap();
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
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

/* Another opener puts the detach off, and with it what may take long. */
TEST_F(fs, that_is_frozen_does_not_hold_up_a_detach_that_is_put_off)
{
	struct medium *m = &self->m;
	struct loop_info64 info;
	char path[80], page[4096];
	int file, opener, ret;
	struct loop lo;
	pid_t pid;

	if (self->reason)
		SKIP(return, "%s", self->reason);

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

/* The same from a partition, which is in use and therefore stays */
TEST_F(fs, stays_readable_on_a_partition_when_the_file_changes_under_it)
{
	const __u32 entry[4] = {
		[1] = htole32(0x83),
		[2] = htole32(PART_START >> 9),
		[3] = htole32(IMAGE_SIZE >> 9),
	};
	struct medium *m = &self->m;
	int i, whole, images[2], rounds = test_rounds(MOST_ROUNDS);
	char path[128];
	__u64 old;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, medium_create(m, IMAGE_SIZE));
	ASSERT_EQ(0, medium_fill(m));
	whole = m->image;
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s.%d", m->path, i);
		images[i] = make_file(path, PART_START + IMAGE_SIZE);
		ASSERT_LE(0, images[i]);
		unlink(path);
		ASSERT_EQ(sizeof(entry), pwrite(images[i], entry, sizeof(entry), 446));
		ASSERT_EQ(2, pwrite(images[i], "\x55\xaa", 2, 510));
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
	check_detached(_metadata, self->nl, &self->log, &m->lo, old);
	close(images[1]);
	m->image = images[0];
	close(whole);
}

/* Lies as a file on a filesystem that is on a loop device itself */
TEST_F(fs, on_a_file_on_a_loop_device_detaches_before_that)
{
	struct medium *outer = &self->m, inner;
	__u64 old;

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
	check_detached(_metadata, self->nl, &self->log, &inner.lo, old);

	/* the inner file is closed: nothing keeps the outer filesystem busy */
	old = number_of(&outer->lo);
	EXPECT_EQ(0, syscall(__NR_umount2, outer->dir, 0));
	outer->mounted = false;
	check_detached(_metadata, self->nl, &self->log, &outer->lo, old);
	EXPECT_EQ(0, medium_destroy(&inner));
}

/* A loop device whose file is another one: umount detaches both. */
TEST_F(fs, on_a_loop_device_on_another_detaches_both)
{
	struct medium *m = &self->m;
	struct loop lower;
	__u64 upper_old, lower_old;
	int whole;

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
	check_detached(_metadata, self->nl, &self->log, &m->lo, upper_old);
	check_detached(_metadata, self->nl, &self->log, &lower, lower_old);
	EXPECT_EQ(0, loop_remove(lower.nr));
}

/* Others who attach and detach the same device and another meanwhile */
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

	while (!r->error && !__atomic_load_n(r->stop, __ATOMIC_ACQUIRE)) {
		int ret, fd = open_disk(r->name, O_RDWR);

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
		/* who was faster has detached it */
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
		while ((ret = medium_attach(m, LO_FLAGS_AUTOCLEAR)) == -EBUSY &&
		       now_ms() < deadline) {
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
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
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
