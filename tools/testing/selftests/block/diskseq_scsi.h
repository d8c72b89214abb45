/* SPDX-License-Identifier: GPL-2.0 */
/*
 * SCSI disks and drives: polls for another medium, commands and their number.
 */
#ifndef __DISKSEQ_SCSI_H
#define __DISKSEQ_SCSI_H

#include <scsi/sg.h>
#include <sys/ioctl.h>

#include "diskseq_disk.h"

static inline int disk_poll(const char *disk, const char *msecs)
{
	char path[128];

	disk_path(path, disk, "events_poll_msecs");
	return write_text(path, msecs);
}

/*
 * An open checks for a new medium and handles a pending change. A change is
 * only new if the previous one has been handled.
 */
static inline int disk_look(const char *disk)
{
	int fd = open_disk(disk, O_RDONLY | O_NONBLOCK);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* The driver examines the disk again; waits until it has done so with a new one. */
static inline int disk_rescan(const char *disk)
{
	char path[128];

	disk_path(path, disk, "device/rescan");
	return write_text(path, "1");
}

static inline long disk_commands(const char *disk)
{
	char path[128], buf[32];

	disk_path(path, disk, "device/iorequest_cnt");
	return read_text(path, buf, sizeof(buf)) ? -1 : strtol(buf, NULL, 16);
}

/* A poll is one command at least. */
static inline int disk_wait_for_polls(const char *disk, int nr)
{
	long first = disk_commands(disk), now = first, last = first;
	long long deadline = now_ms() + PATIENCE_MS;

	if (first < 0)
		return -ENOENT;
	while (now < first + nr) {
		now = disk_commands(disk);
		if (now != last)
			deadline = now_ms() + PATIENCE_MS;
		last = now;
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		nap();
	}
	return 0;
}

/* One that transfers no data; -EIO if the drive refuses, with the sense key. */
static inline int disk_command(int fd, const unsigned char *cdb,
			       unsigned char len, unsigned char *sense_key)
{
	unsigned char sense[32] = {};
	struct sg_io_hdr hdr = {
		.interface_id = 'S',
		.dxfer_direction = SG_DXFER_NONE,
		.cmdp = (unsigned char *)cdb,
		.cmd_len = len,
		.sbp = sense,
		.mx_sb_len = sizeof(sense),
		.timeout = PATIENCE_MS,
	};

	if (ioctl(fd, SG_IO, &hdr))
		return -errno;
	if (sense_key)
		*sense_key = sense[2] & 0xf;
	return hdr.status || hdr.host_status ? -EIO : 0;
}

#endif /* __DISKSEQ_SCSI_H */
