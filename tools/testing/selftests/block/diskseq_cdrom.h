/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A CD drive of QEMU with a disc in it, and the fixture of its tests.
 */
#ifndef __DISKSEQ_CDROM_H
#define __DISKSEQ_CDROM_H

#include <linux/pktcdvd.h>

#include "diskseq_cleanup.h"
#include "diskseq_drive.h"
#include "diskseq_qmp.h"

#define POLL_MS		"2"

struct cdrom {
	struct watch d;
	struct qmp qmp;
	const char *id;
	char poll[128];		/* the setting */
	__u64 seq;		/* what the last check has found */
};

#define PACKET_DISK	"pktcdvd0"

/* A block device for packet writing, on top of the drive @disk */
static inline int packet_device(const char *disk, __u32 *pkt_dev)
{
	struct pkt_ctrl_command ctrl = {
		.command = disk ? PKT_CTRL_CMD_SETUP : PKT_CTRL_CMD_TEARDOWN,
	};
	char path[] = "/dev/diskseq-pktcdvd", buf[32];
	unsigned int major, minor;
	dev_t devnum;
	int fd, ret;

	if (read_text("/sys/class/misc/pktcdvd/dev", buf, sizeof(buf)))
		return -ENODEV;
	if (sscanf(buf, "%u:%u", &major, &minor) != 2)
		return -EINVAL;
	if (disk) {
		ret = disk_devnum(disk, &devnum);
		if (ret)
			return ret;
		/* as the kernel encodes it */
		ctrl.dev = minor(devnum) | major(devnum) << 8;
	} else {
		ctrl.pkt_dev = *pkt_dev;
	}
	unlink(path);
	if (mknod(path, S_IFCHR | 0600, makedev(major, minor)))
		return -errno;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ret = fd < 0 ? -errno : 0;
	unlink(path);
	if (ret)
		return ret;
	if (ioctl(fd, PACKET_CTRL_CMD, &ctrl))
		ret = -errno;
	close(fd);
	*pkt_dev = ctrl.pkt_dev;
	return ret;
}

static inline void packet_remove(const char *name)
{
	char path[128], buf[32];
	unsigned int major, minor;
	__u32 dev;

	disk_path(path, name, "dev");
	if (read_text(path, buf, sizeof(buf)) ||
	    sscanf(buf, "%u:%u", &major, &minor) != 2)
		return;
	dev = minor | major << 8;
	packet_device(NULL, &dev);
}

/* Why it cannot be tested, or NULL */
static inline const char *cdrom_start(struct __test_metadata *_metadata,
				      struct cdrom *cd, const char *id,
				      const char *part)
{
	struct watch *d = &cd->d;
	const char *reason = NULL;
	int fd;

	memset(cd, 0, sizeof(*cd));
	d->nl = -1;
	cd->id = id;
	ASSERT_EQ(0, qmp_start(&cd->qmp, &reason));
	if (reason)
		return reason;
	load_module("sr_mod", NULL);
	/* a test that failed has left it */
	packet_remove(PACKET_DISK);
	if (find_drive("sr", part, d->name))
		return "needs the CD drive of QEMU";
	fd = open_disk(d->name, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	if (!has_diskseq(d->name, fd))
		reason = "kernel has no disk sequence numbers";
	close(fd);
	if (reason)
		return reason;
	d->nl = uevent_open();
	ASSERT_LE(0, d->nl);
	ASSERT_EQ(0, media_none(&cd->qmp));
	ASSERT_EQ(0, medium_insert(&cd->qmp, id, 'a'));
	disk_path(cd->poll, d->name, "events_poll_msecs");
	ASSERT_EQ(0, setting_change(cd->poll, POLL_MS));
	ASSERT_EQ(0, drive_settle(d));
	ASSERT_EQ(0, watch_settle(d));
	ASSERT_EQ(0, drive_diskseq(d, &cd->seq));
	return NULL;
}

static inline void cdrom_stop(struct __test_metadata *_metadata, struct cdrom *cd)
{
	if (cd->d.nl >= 0) {
		EXPECT_EQ(0, media_none(&cd->qmp));
		EXPECT_EQ(0, setting_restore(cd->poll));
	}
	qmp_close(&cd->qmp);
	watch_close(&cd->d);
}

FIXTURE(cdrom)
{
	const char *reason;
	struct cdrom cd;
};

FIXTURE_VARIANT(cdrom)
{
	const char *id;		/* QEMU's name of it */
	const char *part;	/* of its path below /sys/devices */
	bool reset;		/* when the machine wakes */
};

FIXTURE_VARIANT_ADD(cdrom, sata) {
	.id = "sata-cd",
	.part = "/ata",
};

FIXTURE_VARIANT_ADD(cdrom, scsi) {
	.id = "scsi-cd",
	.part = "/virtio",
	.reset = true,
};

FIXTURE_SETUP(cdrom)
{
	self->reason = cdrom_start(_metadata, &self->cd, variant->id,
				   variant->part);
}

FIXTURE_TEARDOWN(cdrom)
{
	cdrom_stop(_metadata, &self->cd);
}

#endif /* __DISKSEQ_CDROM_H */
