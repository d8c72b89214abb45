/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A filesystem on a loop device: made, filled, mounted, and looked at.
 */
#ifndef __DISKSEQ_MEDIUM_H
#define __DISKSEQ_MEDIUM_H

#include <sys/syscall.h>

#include "diskseq_loop.h"

#define MB		(1024 * 1024)
#define IMAGE_SIZE	(32 * MB)
#define OUTER_SIZE	(96 * MB)	/* has room for a file of IMAGE_SIZE */
#define JOURNAL_SIZE	(8 * MB)
#define PAYLOAD		(256 * 1024)

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
static inline int run(const char *const argv[])
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

static inline int mkfs(const struct fstype *type, const char *option,
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

static inline int do_mount(const char *source, const char *dir,
			   const char *type, unsigned long flags,
			   const char *options)
{
	return syscall(__NR_mount, source, dir, type, flags, options) ? -errno : 0;
}

/* Another program may look into it for a moment. */
static inline int do_umount(const char *dir)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (syscall(__NR_umount2, dir, 0)) {
		if (errno != EBUSY || now_ms() > deadline)
			return -errno;
		nap();
	}
	return 0;
}

static inline bool have_filesystem(const char *name)
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

static inline int make_file(const char *path, off_t size)
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
static inline int copy_image(int from, int to, off_t size, off_t shift)
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

static inline int write_payload(const char *dir)
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

static inline int check_payload(const char *dir)
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

static inline int make_base(void)
{
	if (mkdir(base, 0700))
		return errno == EEXIST ? 0 : -errno;
	return do_mount("diskseq", base, "tmpfs", 0, NULL);
}

static inline void remove_base(void)
{
	syscall(__NR_umount2, base, 2 /* MNT_DETACH */);
	rmdir(base);
}

static __attribute__((constructor)) void base_init(void)
{
	snprintf(base, sizeof(base), "/tmp/diskseq-fs-%d", getpid());
	atexit(remove_base);
}

static inline void medium_init(struct medium *m, const struct fstype *type, int nr)
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
static inline int make_external_journal(struct medium *m)
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
static inline int medium_create(struct medium *m, off_t size)
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
static inline int medium_attach(struct medium *m, unsigned int flags)
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
static inline int medium_mount(struct medium *m, const char *partition,
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

static inline int medium_umount(struct medium *m)
{
	int ret = do_umount(m->dir);

	if (!ret)
		m->mounted = false;
	return ret;
}

/* Write something into the filesystem, and leave it clean. */
static inline int medium_fill(struct medium *m)
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

static inline int medium_destroy(struct medium *m)
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

#endif /* __DISKSEQ_MEDIUM_H */
