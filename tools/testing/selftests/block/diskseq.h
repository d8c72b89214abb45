/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the disk sequence number share: uevents read from the
 * kernel, disks by name, loop devices.
 *
 * Functions return 0 (or what their name says) or a negative errno.
 */
#ifndef __DISKSEQ_H
#define __DISKSEQ_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/netlink.h>
#include <linux/types.h>

#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, __u64)
#endif

#ifndef LOOP_CONFIGURE
#define LOOP_CONFIGURE 0x4C0A
struct loop_config {
	__u32			fd;
	__u32			block_size;
	struct loop_info64	info;
	__u64			__reserved[8];
};
#endif

/* Long enough for a slow virtual machine: whoever waits so long fails. */
#define PATIENCE_MS	20000

#define LOOP_FIRST	200		/* numbers nobody else is using */
#define LOOP_MAX	256		/* how many such */
#define SETTING_MAX	16
#define LEFTOVER_MAX	16

static inline long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* How many rounds a test goes: more, but at most so many, for DISKSEQ_CYCLES. */
static inline int test_rounds(int most)
{
	const char *env = getenv("DISKSEQ_CYCLES");
	int rounds = env ? atoi(env) / 8 : 12;

	if (rounds > most)
		rounds = most;
	return rounds > 10 ? rounds : 10;
}

/* Only where there is no event to wait for. */
static inline void nap(void)
{
	struct timespec ts = { .tv_nsec = 1000000 };

	nanosleep(&ts, NULL);
}

static inline int read_text(const char *path, char *buf, size_t size)
{
	ssize_t len;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = read(fd, buf, size - 1);
	if (len < 0)
		len = -errno;
	close(fd);
	if (len < 0)
		return len;
	buf[len] = '\0';
	return 0;
}

static inline int write_text(const char *path, const char *text)
{
	ssize_t len;
	int fd;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = write(fd, text, strlen(text));
	if (len < 0)
		len = -errno;
	close(fd);
	return len < 0 ? len : 0;
}

/* A driver may be a module; never mind if not, the caller looks again. */
static inline void load_module(const char *name, const char *parameter)
{
	pid_t pid;

	pid = fork();
	if (!pid) {
		execlp("modprobe", "modprobe", "-q", name, parameter, NULL);
		_exit(1);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* udev opens disks at times of its own choosing. */
static inline bool udev_is_running(void)
{
	return !access("/run/udev/control", F_OK);
}

/* The three interfaces */

static inline int diskseq_ioctl(int fd, __u64 *seq)
{
	__u64 val = 0;

	*seq = 0;
	if (ioctl(fd, BLKGETDISKSEQ, &val))
		return -errno;
	*seq = val;
	return 0;
}

static inline int diskseq_sysfs(const char *disk, __u64 *seq)
{
	char path[128], buf[64], *end;
	int ret;

	*seq = 0;
	snprintf(path, sizeof(path), "/sys/block/%s/diskseq", disk);
	ret = read_text(path, buf, sizeof(buf));
	if (ret)
		return ret;
	errno = 0;
	*seq = strtoull(buf, &end, 10);
	if (errno || end == buf || strcmp(end, "\n"))
		return -EINVAL;
	return 0;
}

/* DISKSEQ in the uevent file of a disk ("loop0") or partition ("loop0/loop0p1") */
static inline int diskseq_uevent_file(const char *dev, __u64 *seq)
{
	char path[128], buf[4096], *line, *save;
	unsigned long long val;
	int ret;

	*seq = 0;
	snprintf(path, sizeof(path), "/sys/block/%s/uevent", dev);
	ret = read_text(path, buf, sizeof(buf));
	if (ret)
		return ret;
	for (line = strtok_r(buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "DISKSEQ=%llu", &val) != 1)
			continue;
		*seq = val;
		return 0;
	}
	return -ENODATA;
}

/*
 * A kernel has the feature if it shows the number in either way: one that is
 * broken must fail the tests, not skip them.
 */
static inline bool has_diskseq(const char *disk, int fd)
{
	__u64 seq;

	/* for a test of the tests: all shall run, and fail, where it is missing */
	if (getenv("DISKSEQ_NO_PROBE"))
		return true;
	return !diskseq_ioctl(fd, &seq) || diskseq_sysfs(disk, &seq) != -ENOENT;
}

/* By path below /sys/block, as all that follows */
static inline int disk_devnum(const char *dev, dev_t *devnum)
{
	unsigned int major, minor;
	char path[128], buf[32];
	int ret;

	snprintf(path, sizeof(path), "/sys/block/%s/dev", dev);
	ret = read_text(path, buf, sizeof(buf));
	if (ret)
		return ret;
	if (sscanf(buf, "%u:%u", &major, &minor) != 2)
		return -EINVAL;
	*devnum = makedev(major, minor);
	return 0;
}

/* Open a disk or partition, also where nobody makes nodes. */
static inline int open_disk(const char *dev, int flags)
{
	const char *name = strrchr(dev, '/');
	char path[128];
	struct stat st;
	dev_t devnum;
	int fd, ret;

	ret = disk_devnum(dev, &devnum);
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/dev/%s", name ? name + 1 : dev);
	if (!stat(path, &st) && S_ISBLK(st.st_mode) && st.st_rdev == devnum) {
		fd = open(path, flags | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}

	snprintf(path, sizeof(path), "/dev/diskseq-%d-%ld", getpid(),
		 syscall(__NR_gettid));
	if (mknod(path, S_IFBLK | 0600, devnum))
		return -errno;
	fd = open(path, flags | O_CLOEXEC);
	ret = fd < 0 ? -errno : fd;
	unlink(path);
	return ret;
}

/*
 * What the processes of one program share. A failed assertion ends a test
 * before its tear-down, and a timeout kills it: what is left over then is
 * removed when the program ends.
 */
struct setting {
	char		path[96];	/* empty: none */
	char		was[64];
};

struct leftover {
	void		(*remove)(const char *name);	/* NULL: none */
	char		name[32];
};

struct shared {
	pid_t		program;
	pid_t		test;		/* the last one that was begun */
	bool		loops[LOOP_MAX];
	int		scsi_hosts;
	struct setting	settings[SETTING_MAX];
	struct leftover	leftovers[LEFTOVER_MAX];
	bool		probed;
	const char	*unusable;
	long long	began;		/* a case that was not torn down yet */
};

static struct shared *shared;

static inline struct setting *setting_find(const char *path)
{
	int i;

	for (i = 0; i < SETTING_MAX; i++)
		if (!strcmp(shared->settings[i].path, path))
			return &shared->settings[i];
	return NULL;
}

/*
 * Change a setting of the kernel: a file that takes what it shows, or one of
 * several words it shows, where that in brackets is chosen. It gets back what
 * it was by setting_restore(), or when the program ends.
 */
static inline int setting_change(const char *path, const char *value)
{
	struct setting *setting = setting_find(path);
	char *chosen;
	int ret;

	if (!setting) {
		setting = setting_find("");
		if (!setting || strlen(path) >= sizeof(setting->path))
			return -ENOSPC;
		ret = read_text(path, setting->was, sizeof(setting->was));
		if (ret)
			return ret;
		chosen = strchr(setting->was, '[');
		if (chosen) {
			chosen[strcspn(chosen, "]")] = '\0';
			memmove(setting->was, chosen + 1, strlen(chosen));
		}
		strcpy(setting->path, path);
	}
	return write_text(path, value);
}

/* Nothing happens if it was not changed. */
static inline int setting_restore(const char *path)
{
	struct setting *setting = setting_find(path);
	int ret;

	if (!setting)
		return 0;
	ret = write_text(path, setting->was);
	setting->path[0] = '\0';
	return ret;
}

static inline struct leftover *leftover_find(const char *name)
{
	int i;

	for (i = 0; i < LEFTOVER_MAX; i++)
		if (!strcmp(shared->leftovers[i].name, name))
			return &shared->leftovers[i];
	return NULL;
}

/*
 * Have @remove called for @name when the program ends, unless leftover_gone()
 * is called before. To be called first, and then what may be left over made.
 */
static inline int leftover_expect(const char *name,
				  void (*remove)(const char *name))
{
	struct leftover *leftover = leftover_find(name);

	if (!leftover)
		leftover = leftover_find("");
	if (!leftover || strlen(name) >= sizeof(leftover->name))
		return -ENOSPC;
	strcpy(leftover->name, name);
	leftover->remove = remove;
	return 0;
}

static inline void leftover_gone(const char *name)
{
	struct leftover *leftover = leftover_find(name);

	if (leftover)
		leftover->name[0] = '\0';
}

/* Uevents */

struct uevent {
	__u64			seqnum;
	__u64			diskseq;	/* 0: none */
	char			action[16];
	char			devpath[256];
	char			devname[64];
	char			disk[64];	/* the whole disk's name */
	char			uuid[40];	/* of a synthetic event */
	bool			partition;
	bool			media_change;
	bool			eject_request;
	bool			ro_changed;
	bool			extra;		/* says more than "change" */
};

struct uevent_log {
	struct uevent	*ev;
	size_t		nr;
	size_t		room;
};

static inline int uevent_open(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd, size = 256 << 20;

	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    NETLINK_KOBJECT_UEVENT);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
	    bind(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

static inline bool uevent_get(const char *var, const char *key, const char **val)
{
	size_t len = strlen(key);

	if (strncmp(var, key, len) || var[len] != '=')
		return false;
	*val = var + len + 1;
	return true;
}

/* Only events of disks and partitions count. */
static inline bool uevent_parse(const char *buf, size_t len, struct uevent *ev)
{
	const char *var, *val, *end = buf + len;
	bool block = false;

	memset(ev, 0, sizeof(*ev));
	for (var = buf; var < end; var += strlen(var) + 1) {
		if (uevent_get(var, "ACTION", &val))
			snprintf(ev->action, sizeof(ev->action), "%s", val);
		else if (uevent_get(var, "DEVPATH", &val))
			snprintf(ev->devpath, sizeof(ev->devpath), "%s", val);
		else if (uevent_get(var, "DEVNAME", &val))
			snprintf(ev->devname, sizeof(ev->devname), "%s", val);
		else if (uevent_get(var, "SUBSYSTEM", &val))
			block = !strcmp(val, "block");
		else if (uevent_get(var, "DEVTYPE", &val))
			ev->partition = !strcmp(val, "partition");
		else if (uevent_get(var, "SYNTH_UUID", &val))
			snprintf(ev->uuid, sizeof(ev->uuid), "%s", val);
		else if (uevent_get(var, "SEQNUM", &val))
			ev->seqnum = strtoull(val, NULL, 10);
		else if (uevent_get(var, "DISKSEQ", &val))
			ev->diskseq = strtoull(val, NULL, 10);
		else if (uevent_get(var, "DISK_MEDIA_CHANGE", &val))
			ev->media_change = !strcmp(val, "1");
		else if (uevent_get(var, "DISK_EJECT_REQUEST", &val))
			ev->eject_request = !strcmp(val, "1");
		else if (uevent_get(var, "DISK_RO", &val))
			ev->ro_changed = true;
		if (uevent_get(var, "DISK_MEDIA_CHANGE", &val) ||
		    uevent_get(var, "DISK_EJECT_REQUEST", &val) ||
		    uevent_get(var, "DISK_RO", &val) ||
		    uevent_get(var, "RESIZE", &val))
			ev->extra = true;
	}
	val = strstr(ev->devpath, "/block/");
	if (!block || !val)
		return false;
	val += strlen("/block/");
	snprintf(ev->disk, sizeof(ev->disk), "%.*s", (int)strcspn(val, "/"), val);
	return true;
}

/*
 * 1: an event, 0: none came in time, -ENOBUFS: some were lost, and no test can
 * rely on what it has read.
 */
static inline int uevent_read(int fd, struct uevent *ev, int timeout_ms)
{
	long long deadline = now_ms() + timeout_ms;

	for (;;) {
		char buf[16384];
		struct sockaddr_nl from;
		struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) - 1 };
		struct msghdr msg = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &iov,
			.msg_iovlen = 1,
		};
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		long long left;
		ssize_t len;

		len = recvmsg(fd, &msg, 0);
		if (len < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (len >= 0) {
			buf[len] = '\0';
			/* pid 0: from the kernel */
			if (!from.nl_pid && uevent_parse(buf, len, ev))
				return 1;
			continue;
		}
		left = deadline - now_ms();
		if (left <= 0)
			return 0;
		poll(&pfd, 1, left);
	}
}

static inline bool uevent_is_add(const struct uevent *ev)
{
	return !strcmp(ev->action, "add");
}

static inline bool uevent_is_remove(const struct uevent *ev)
{
	return !strcmp(ev->action, "remove");
}

/* A change that says nothing else: no consumer ignores this one. */
static inline bool uevent_is_plain_change(const struct uevent *ev)
{
	return !strcmp(ev->action, "change") && !ev->extra;
}

/* Sent by the kernel itself, not by a write to some uevent file. */
static inline bool uevent_is_own(const struct uevent *ev, const char *disk)
{
	return !ev->uuid[0] && !strcmp(ev->disk, disk);
}

static inline int uevent_append(struct uevent_log *log, const struct uevent *ev)
{
	size_t i;

	if (log->nr == log->room) {
		size_t room = log->room ? 2 * log->room : 64;
		struct uevent *mem = realloc(log->ev, room * sizeof(*mem));

		if (!mem)
			return -ENOMEM;
		log->ev = mem;
		log->room = room;
	}
	/* keep the kernel's order, whatever the order of arrival */
	for (i = log->nr++; i && ev->seqnum < log->ev[i - 1].seqnum; i--)
		log->ev[i] = log->ev[i - 1];
	log->ev[i] = *ev;
	return 0;
}

/* How a synthetic event is told from all others */
static inline void uevent_name(char uuid[static 40])
{
	static unsigned int nr;

	snprintf(uuid, 40, "%08x-d15c-4e9a-8000-%012x",
		 __atomic_add_fetch(&nr, 1, __ATOMIC_RELAXED), getpid());
}

static inline int uevent_trigger(const char *disk, const char *uuid)
{
	char path[128], text[64];

	snprintf(path, sizeof(path), "/sys/block/%s/uevent", disk);
	snprintf(text, sizeof(text), "change %s", uuid);
	return write_text(path, text);
}

/*
 * Read everything that was sent before now: up to an event that is our own.
 * What is not in the log then did not happen; no sleep proves that.
 */
static inline int uevent_fence(int fd, const char *disk, struct uevent_log *log)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct uevent ev;
	char uuid[40];
	int ret;

	uevent_name(uuid);
	ret = uevent_trigger(disk, uuid);
	if (ret)
		return ret;
	for (;;) {
		ret = uevent_read(fd, &ev, deadline - now_ms());
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		if (!strcmp(ev.uuid, uuid))
			return 0;
		ret = uevent_append(log, &ev);
		if (ret)
			return ret;
	}
}

/* How many numbers between @from and @to, both excluded, does no event have? */
static inline unsigned int uevent_missing(const struct uevent_log *log,
					  __u64 from, __u64 to)
{
	unsigned int missing = 0;
	__u64 seq;
	size_t i;

	for (seq = from + 1; seq < to; seq++) {
		for (i = 0; i < log->nr; i++)
			if (log->ev[i].diskseq == seq)
				break;
		if (i == log->nr)
			missing++;
	}
	return missing;
}

/*
 * The counter is one for all disks, so another disk may have drawn a number
 * between two of ours. Then it announces it, a new disk somewhat later. How
 * many does nobody announce?
 */
static inline unsigned int uevent_unaccounted(int fd, struct uevent_log *log,
					      __u64 from, __u64 to)
{
	long long deadline = now_ms() + 1000;
	unsigned int missing;
	struct uevent ev;

	for (;;) {
		missing = uevent_missing(log, from, to);
		if (!missing ||
		    uevent_read(fd, &ev, deadline - now_ms()) <= 0 ||
		    uevent_append(log, &ev))
			return missing;
	}
}

/* Loop devices */

static inline int loop_ctl(unsigned int cmd, long arg)
{
	int fd, ret;

	fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		load_module("loop", NULL);
		fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	}
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, cmd, arg);
	if (ret < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* Somebody else may have the disk open for a moment. */
static inline int loop_remove(int nr)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	while ((ret = loop_ctl(LOOP_CTL_REMOVE, nr)) == -EBUSY &&
	       now_ms() < deadline)
		nap();
	if (ret < 0)
		return ret;
	if (nr >= LOOP_FIRST && nr < LOOP_FIRST + LOOP_MAX)
		shared->loops[nr - LOOP_FIRST] = false;
	return 0;
}

static inline int loop_add_nr(int nr)
{
	int ret = loop_ctl(LOOP_CTL_ADD, nr);

	if (ret >= 0 && nr >= LOOP_FIRST && nr < LOOP_FIRST + LOOP_MAX)
		shared->loops[nr - LOOP_FIRST] = true;
	return ret;
}

/* Returns the number of a new loop device. */
static inline int loop_add(void)
{
	int nr, ret = -ENOSPC;

	for (nr = LOOP_FIRST; nr < LOOP_FIRST + LOOP_MAX; nr++) {
		ret = loop_add_nr(nr);
		if (ret != -EEXIST)
			break;
	}
	return ret;
}

/* A file in memory; with a DOS partition table of two partitions if wanted. */
static inline int backing_file(size_t size, bool partitioned)
{
	static const unsigned char table[2][16] = {
		{ 0, 0, 0, 0, 0x83, 0, 0, 0, 64, 0, 0, 0, 64, 0, 0, 0 },
		{ 0, 0, 0, 0, 0x83, 0, 0, 0, 128, 0, 0, 0, 64, 0, 0, 0 },
	};
	int fd;

	fd = syscall(__NR_memfd_create, "diskseq", 1U /* MFD_CLOEXEC */);
	if (fd < 0)
		fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, size) ||
	    (partitioned &&
	     (pwrite(fd, table, sizeof(table), 446) != sizeof(table) ||
	      pwrite(fd, "\x55\xaa", 2, 510) != 2))) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

static inline int loop_configure(int fd, int backing, unsigned int flags)
{
	struct loop_config config = {
		.fd = backing,
		.info.lo_flags = flags,
	};

	return ioctl(fd, LOOP_CONFIGURE, &config) ? -errno : 0;
}

static inline int loop_status(int fd, struct loop_info64 *info)
{
	return ioctl(fd, LOOP_GET_STATUS64, info) ? -errno : 0;
}

static inline bool loop_is_bound(int fd)
{
	struct loop_info64 info;

	return !loop_status(fd, &info);
}

/*
 * LOOP_CLR_FD only puts off what it was asked for while somebody else has the
 * disk open, be it for a moment: ask again.
 */
static inline int loop_detach(int fd)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct loop_info64 info;

	for (;;) {
		if (ioctl(fd, LOOP_CLR_FD, 0))
			return -errno;
		if (loop_status(fd, &info))
			return 0;
		if (now_ms() > deadline)
			return -EBUSY;
		info.lo_flags &= ~LO_FLAGS_AUTOCLEAR;
		ioctl(fd, LOOP_SET_STATUS64, &info);
		nap();
	}
}

struct loop {
	int	nr;
	int	fd;
	char	name[16];
};

static inline int loop_open(struct loop *lo, int flags)
{
	lo->fd = open_disk(lo->name, flags);
	if (lo->fd < 0)
		return lo->fd;
	/* udev keeps off a disk that is locked, most of the time */
	flock(lo->fd, LOCK_EX | LOCK_NB);
	return 0;
}

static inline void loop_close(struct loop *lo)
{
	if (lo->fd >= 0)
		close(lo->fd);
	lo->fd = -1;
}

static inline int loop_create(struct loop *lo)
{
	lo->fd = -1;
	lo->nr = loop_add();
	if (lo->nr < 0)
		return lo->nr;
	snprintf(lo->name, sizeof(lo->name), "loop%d", lo->nr);
	return loop_open(lo, O_RDWR);
}

static inline int loop_destroy(struct loop *lo)
{
	if (lo->fd >= 0)
		ioctl(lo->fd, LOOP_CLR_FD, 0);
	loop_close(lo);
	return lo->nr < 0 ? lo->nr : loop_remove(lo->nr);
}

static inline const char *loop_probe(void)
{
	const char *reason = NULL;
	struct loop lo;

	if (geteuid())
		return "needs root";
	if (access("/sys/block", F_OK))
		return "needs sysfs";
	if (loop_create(&lo))
		return "needs the loop driver and LOOP_CTL_ADD";
	if (!has_diskseq(lo.name, lo.fd))
		reason = "kernel has no disk sequence numbers";
	loop_destroy(&lo);
	return reason;
}

/* Why the tests that use loop devices can't run here, or NULL. */
static inline const char *loop_unusable(void)
{
	if (!shared->probed) {
		shared->unusable = loop_probe();
		shared->probed = true;
	}
	return shared->unusable;
}

/* Other drivers */

#define NULL_BLK	"/sys/kernel/config/nullb"

static inline bool have_null_blk(void)
{
	if (access(NULL_BLK, F_OK)) {
		/* not mount(): <sys/mount.h> and <linux/fs.h> do not get along */
		syscall(__NR_mount, "configfs", "/sys/kernel/config",
			"configfs", 0UL, NULL);
		load_module("null_blk", "nr_devices=0");
	}
	return !access(NULL_BLK, F_OK);
}

#define SCSI_DEBUG	"/sys/bus/pseudo/drivers/scsi_debug/"
#define SCSI_DISK	"/sys/bus/scsi/drivers/sd"

static inline bool have_scsi_debug(void)
{
	if (access(SCSI_DEBUG, F_OK))
		load_module("scsi_debug", "add_host=0");
	if (access(SCSI_DISK, F_OK))
		load_module("sd_mod", NULL);
	return !access(SCSI_DEBUG "add_host", W_OK) && !access(SCSI_DISK, F_OK);
}

/* A new host with one disk, which is found in its own time */
static inline int scsi_debug_add(int nl, struct uevent_log *log, char name[64])
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct uevent ev;
	int ret;

	ret = write_text(SCSI_DEBUG "add_host", "1");
	if (ret)
		return ret;
	shared->scsi_hosts++;
	for (;;) {
		ret = uevent_read(nl, &ev, deadline - now_ms());
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		ret = uevent_append(log, &ev);
		if (ret)
			return ret;
		if (uevent_is_add(&ev) && !ev.partition && !ev.uuid[0] &&
		    strstr(ev.devpath, "/pseudo_")) {
			snprintf(name, 64, "%s", ev.disk);
			return 0;
		}
	}
}

/* The last one that was added */
static inline int scsi_debug_remove(void)
{
	shared->scsi_hosts--;
	return write_text(SCSI_DEBUG "add_host", "-1");
}

/* At the end */

/* A kernel that has come to a standstill does not let go of a process. */
static inline void wait_bounded(pid_t pid)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (!waitpid(pid, NULL, WNOHANG) && now_ms() < deadline)
		nap();
}

static inline void leftover_remove(struct leftover *leftover)
{
	pid_t pid;

	if (!leftover->name[0])
		return;
	pid = fork();
	if (!pid) {
		leftover->remove(leftover->name);
		_exit(0);
	}
	if (pid > 0)
		wait_bounded(pid);
}

static inline void cleanup(void)
{
	struct dirent *entry;
	char path[300];
	DIR *dir;
	int i;

	/* only if a signal ends the program */
	if (shared->test && !waitpid(shared->test, NULL, WNOHANG)) {
		kill(shared->test, SIGKILL);
		wait_bounded(shared->test);
	}
	for (i = SETTING_MAX - 1; i >= 0; i--)
		if (shared->settings[i].path[0])
			setting_restore(shared->settings[i].path);
	for (i = LEFTOVER_MAX - 1; i >= 0; i--)
		leftover_remove(&shared->leftovers[i]);
	for (i = 0; i < LOOP_MAX; i++) {
		struct loop lo = { .nr = LOOP_FIRST + i };

		if (!shared->loops[i])
			continue;
		snprintf(lo.name, sizeof(lo.name), "loop%d", lo.nr);
		loop_open(&lo, O_RDONLY);
		loop_destroy(&lo);
	}
	while (shared->scsi_hosts)
		scsi_debug_remove();
	dir = opendir(NULL_BLK);
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), NULL_BLK "/%s", entry->d_name);
		if (!strncmp(entry->d_name, "diskseq_", 8))
			rmdir(path);
	}
	if (dir)
		closedir(dir);
}

static inline void note_test(void)
{
	if (getppid() == shared->program)
		shared->test = getpid();
}

/* By a timeout, or by whoever has seen enough */
static inline void end_program(int sig)
{
	if (getpid() == shared->program)
		exit(128 + sig);
	_exit(128 + sig);
}

static __attribute__((constructor)) void shared_init(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		abort();
	shared->program = getpid();
	pthread_atfork(NULL, NULL, note_test);
	signal(SIGTERM, end_program);
	signal(SIGINT, end_program);
	/* not run by the tests' own processes: these leave by _exit() */
	atexit(cleanup);
}

/* All disks of the machine; the caller frees. Returns how many. */
static inline int list_disks(char (**names)[64])
{
	char (*list)[64] = NULL, (*mem)[64];
	struct dirent *entry;
	int nr = 0;
	DIR *dir;

	*names = NULL;
	dir = opendir("/sys/block");
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		mem = realloc(list, (nr + 1) * sizeof(*list));
		if (!mem) {
			free(list);
			closedir(dir);
			return -ENOMEM;
		}
		list = mem;
		snprintf(list[nr++], sizeof(*list), "%.63s", entry->d_name);
	}
	closedir(dir);
	*names = list;
	return nr;
}

#endif /* __DISKSEQ_H */
