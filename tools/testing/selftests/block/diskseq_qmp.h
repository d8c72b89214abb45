/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Media changed by the host: the tests of drives talk to the monitor of the QEMU
 * that they run in, by a port named "diskseq.qmp", and skip on any other machine.
 * QEMU is started with
 *
 *   -chardev socket,id=qmp,path=qmp,server=on,wait=off -mon chardev=qmp,mode=control
 *   -chardev socket,id=guestqmp,path=qmp
 *   -device virtserialport,chardev=guestqmp,name=diskseq.qmp
 *
 * and connects the port to its own monitor. The drives have to be there as
 * "sata-cd", "scsi-cd" and "floppy", a USB bus as "usb", and two media as the
 * block nodes "medium-a" and "medium-b", in which every 512 bytes hold the text
 * "diskseq medium a", or b.
 */
#ifndef __DISKSEQ_QMP_H
#define __DISKSEQ_QMP_H

#include <dirent.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>

#include "diskseq_disk.h"

#define QMP_PORTS	"/sys/class/virtio-ports"
#define STICK		"diskseq-stick"

struct qmp {
	int	fd;
	size_t	len;
	char	line[16384];	/* what was answered last */
};

/* One line, without its end: nothing else is a message. */
static inline int qmp_read_line(struct qmp *qmp)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct pollfd pfd = { .fd = qmp->fd, .events = POLLIN };
	ssize_t len;
	char c;

	qmp->len = 0;
	for (;;) {
		len = read(qmp->fd, &c, 1);
		if (len < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (len <= 0) {
			if (now_ms() > deadline)
				return -ETIMEDOUT;
			poll(&pfd, 1, deadline - now_ms());
			continue;
		}
		if (c == '\n')
			break;
		/* the end of a line that is too long is of no interest */
		if (qmp->len < sizeof(qmp->line) - 1)
			qmp->line[qmp->len++] = c;
	}
	qmp->line[qmp->len] = '\0';
	return 0;
}

/*
 * Command and arguments as JSON, these without the outer braces. Events, and
 * remains of replies to another program, are ignored.
 */
static inline int qmp_ask(struct qmp *qmp, const char *command, const char *args)
{
	static unsigned int nr;
	char text[2048], id[64];
	int len, ret;

	snprintf(id, sizeof(id), "\"diskseq-%d-%u\"", getpid(), ++nr);
	len = snprintf(text, sizeof(text),
		       "{\"execute\": \"%s\", \"arguments\": {%s}, \"id\": %s}\n",
		       command, args, id);
	qmp->line[0] = '\0';
	if (len >= (int)sizeof(text))
		return -EMSGSIZE;
	if (write(qmp->fd, text, len) != len)
		return -EIO;
	do {
		ret = qmp_read_line(qmp);
		if (ret)
			return ret;
	} while (!strstr(qmp->line, id));
	if (strstr(qmp->line, "\"error\": {"))
		return -EIO;
	return strstr(qmp->line, "\"return\": ") ? 0 : -EPROTO;
}

/*
 * One that has to succeed: if it does not, the answer is printed. A stick that was
 * pulled releases its medium a little later.
 */
static inline int qmp_command(struct qmp *qmp, const char *command,
			      const char *fmt, ...)
{
	long long deadline = now_ms() + PATIENCE_MS;
	char args[1024];
	va_list ap;
	int ret;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	do {
		ret = qmp_ask(qmp, command, args);
	} while (ret == -EIO && strstr(qmp->line, " in use") &&
		 now_ms() < deadline);
	if (ret)
		fprintf(stderr, "# QEMU: %s %s: %s; last answer: %s\n", command,
			args, strerror(-ret), qmp->line[0] ? qmp->line : "none");
	return ret;
}

static inline void qmp_close(struct qmp *qmp)
{
	if (qmp->fd >= 0)
		close(qmp->fd);
	qmp->fd = -1;
}

/* One process can have it open: the last close may be that of a killed test. */
static inline int qmp_open_port(const char *path)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int fd;

	for (;;) {
		fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0)
			return fd;
		if (errno != EBUSY || now_ms() > deadline)
			return -errno;
		nap();
	}
}

/* -ENODEV: this isn't QEMU, or there is no such port. */
static inline int qmp_open(struct qmp *qmp)
{
	char path[300], name[64];
	struct dirent *entry;
	int ret = -ENODEV;
	DIR *dir;

	qmp->fd = -1;
	dir = opendir(QMP_PORTS);
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), QMP_PORTS "/%s/name", entry->d_name);
		if (read_text(path, name, sizeof(name)) ||
		    strcmp(name, "diskseq.qmp\n"))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		qmp->fd = qmp_open_port(path);
		ret = qmp->fd < 0 ? qmp->fd : 0;
		break;
	}
	if (dir)
		closedir(dir);
	if (ret)
		return ret;
	/* an error if it has been asked before */
	qmp_ask(qmp, "qmp_capabilities", "");
	ret = qmp_command(qmp, "query-name", "%s", "");
	if (ret)
		qmp_close(qmp);
	return ret;
}

/* A test cannot run if there is a @reason. */
static inline int qmp_start(struct qmp *qmp, const char **reason)
{
	int ret;

	qmp->fd = -1;
	if (geteuid()) {
		*reason = "needs root";
		return 0;
	}
	/* it would ask the drive first, and eject what it is asked to */
	if (udev_is_running()) {
		*reason = "needs a machine without udev";
		return 0;
	}
	ret = qmp_open(qmp);
	if (ret == -ENODEV) {
		*reason = "needs the monitor of QEMU by a port";
		return 0;
	}
	return ret;
}

/* Media, by the name or path of the drive */

/* By force, or by asking a guest that has locked the door. */
static inline int tray_open(struct qmp *qmp, const char *drive, bool force)
{
	return qmp_command(qmp, "blockdev-open-tray",
			   "\"id\": \"%s\", \"force\": %s", drive,
			   force ? "true" : "false");
}

static inline int tray_close(struct qmp *qmp, const char *drive)
{
	return qmp_command(qmp, "blockdev-close-tray", "\"id\": \"%s\"", drive);
}

/* From and into a tray that is open by then */
static inline int medium_remove(struct qmp *qmp, const char *drive)
{
	int ret = tray_open(qmp, drive, true);

	if (ret)
		return ret;
	return qmp_command(qmp, "blockdev-remove-medium", "\"id\": \"%s\"", drive);
}

static inline int medium_put(struct qmp *qmp, const char *drive, char medium)
{
	return qmp_command(qmp, "blockdev-insert-medium",
			   "\"id\": \"%s\", \"node-name\": \"medium-%c\"",
			   drive, medium);
}

static inline int medium_insert(struct qmp *qmp, const char *drive, char medium)
{
	int ret = tray_open(qmp, drive, true);

	if (!ret)
		ret = medium_put(qmp, drive, medium);
	return ret ? ret : tray_close(qmp, drive);
}

static inline int medium_change(struct qmp *qmp, const char *drive, char medium)
{
	int ret = medium_remove(qmp, drive);

	if (!ret)
		ret = medium_put(qmp, drive, medium);
	return ret ? ret : tray_close(qmp, drive);
}

/* Empty and closed, whatever was before */
static inline int medium_none(struct qmp *qmp, const char *drive)
{
	int ret = medium_remove(qmp, drive);

	return ret ? ret : tray_close(qmp, drive);
}

/* A medium can only be in one of them, and a test that failed leaves it there. */
static inline int media_none(struct qmp *qmp)
{
	int ret;

	/* most often there is none */
	qmp_ask(qmp, "device_del", "\"id\": \"" STICK "\"");
	ret = medium_none(qmp, "sata-cd");
	if (!ret)
		ret = medium_none(qmp, "scsi-cd");
	return ret ? ret : medium_none(qmp, "floppy");
}

/*
 * Which medium is it, as read past the page cache? 'a' or 'b', or a negative
 * errno. No drive has larger blocks than a CD.
 */
static inline int medium_read(int fd)
{
	static const char text[] = "diskseq medium ";
	void *buf;
	int ret;

	if (posix_memalign(&buf, 4096, 4096))
		return -ENOMEM;
	ret = pread(fd, buf, 4096, 65536) == 4096 ? 0 : -errno;
	if (!ret) {
		char *found = memmem(buf, 4096, text, strlen(text));

		ret = found ? found[strlen(text)] : -EILSEQ;
	}
	free(buf);
	return ret;
}

/* What medium does a program find that opens the disk now? */
static inline int medium_read_once(const char *disk)
{
	int fd, ret;

	fd = open_disk(disk, O_RDONLY | O_DIRECT);
	if (fd < 0)
		return fd;
	ret = medium_read(fd);
	close(fd);
	return ret;
}

/* The name of the disk that is below @part of the device tree, or -ENODEV */
static inline int find_drive(const char *prefix, const char *part, char name[64])
{
	char path[300], target[PATH_MAX];
	struct dirent *entry;
	int ret = -ENODEV;
	ssize_t len;
	DIR *dir;

	dir = opendir("/sys/block");
	while (ret && dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		snprintf(path, sizeof(path), "/sys/block/%s", entry->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		if (!strstr(target, part))
			continue;
		snprintf(name, 64, "%.63s", entry->d_name);
		ret = 0;
	}
	if (dir)
		closedir(dir);
	return ret;
}

#endif /* __DISKSEQ_QMP_H */
