// SPDX-License-Identifier: GPL-2.0
/*
 * CD drives, in QEMU, that report a change of the disc to another command before
 * the kernel asks: of a program that holds the drive open, or of a device on top of
 * it. The change is announced all the same, and its disc can be read.
 *
 * Needs the monitor of QEMU, see diskseq_qmp.h, and skips on other machines.
 */
#define _GNU_SOURCE
#include <linux/cdrom.h>

#include "diskseq.h"
#include "diskseq_cdrom.h"
#include "diskseq_opener.h"

#define NR_CHANGES	(test_rounds(30) / 3)

enum { MEDIA_CHANGED, DRIVE_STATUS, DISC_STATUS, UNIT_READY, NR_QUESTIONS };

static void ask(int fd, int question)
{
	switch (question) {
	case MEDIA_CHANGED:
		ioctl(fd, CDROM_MEDIA_CHANGED, CDSL_CURRENT);
		break;
	case DRIVE_STATUS:
		ioctl(fd, CDROM_DRIVE_STATUS, CDSL_CURRENT);
		break;
	case DISC_STATUS:
		ioctl(fd, CDROM_DISC_STATUS);
		break;
	default:
		drive_is_ready(fd);
	}
}

/* The change is announced though it was reported to another command first. */
TEST_F(cdrom, change_that_a_command_found_has_a_new_number)
{
	struct watch *d = &self->cd.d;
	int i, fd, medium;
	struct news news;
	__u64 seq;

	SKIP_IF(return, self->reason);

	for (i = 0; i < 2 * NR_QUESTIONS; i++) {
		fd = open_disk(d->name, O_RDONLY | O_NONBLOCK | O_DIRECT);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, disk_poll(d->name, "0"));
		ASSERT_EQ(0, medium_change(&self->cd.qmp, self->cd.id,
					   i % 2 ? 'a' : 'b'));
		ask(fd, i % NR_QUESTIONS);
		/* this looks for a change as the kernel does, but not for it */
		if (i % NR_QUESTIONS == MEDIA_CHANGED) {
			medium = medium_read(fd);
			ASSERT_EQ(0, diskseq_ioctl(fd, &seq));
			if (seq == self->cd.seq)
				EXPECT_GT(0, medium);
		}
		ASSERT_EQ(0, disk_poll(d->name, POLL_MS));
		EXPECT_EQ(0, wait_for_change(d, NULL)) {
			TH_LOG("lost by question %d", i % NR_QUESTIONS);
		}
		close(fd);
		ASSERT_EQ(0, drive_settle(d));
		ASSERT_EQ(0, watch_hear(d, &news));
		ASSERT_EQ(0, drive_diskseq(d, &seq));
		EXPECT_LT(self->cd.seq, seq);
		self->cd.seq = seq;
	}
}

/*
 * A program keeps the drive open and reads each disc after the event of its
 * change.  No program opens the drive meanwhile.
 */
TEST_F_TIMEOUT(cdrom, each_change_under_one_descriptor_has_a_number, 60)
{
	struct watch *d = &self->cd.d;
	long long deadline;
	struct news news;
	int i, fd, ret;
	__u64 seq;

	SKIP_IF(return, self->reason);

	fd = open_disk(d->name, O_RDONLY | O_NONBLOCK | O_DIRECT);
	ASSERT_LE(0, fd);
	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, medium_change(&self->cd.qmp, self->cd.id, medium));
		ASSERT_EQ(0, wait_for_change(d, NULL)) {
			TH_LOG("change %d is not reported", i);
		}
		/* of a tray that was seen open, the disc comes after it */
		deadline = now_ms() + PATIENCE_MS;
		while ((ret = medium_read(fd)) != medium && now_ms() < deadline)
			nap();
		EXPECT_EQ(medium, ret);
		ASSERT_EQ(0, disk_wait_for_polls(d->name, 5));
		ASSERT_EQ(0, watch_hear(d, &news));
		EXPECT_LE(1, news.media);
		EXPECT_GE(2, news.media);
		EXPECT_EQ(0, news.decreases);
		ASSERT_EQ(0, diskseq_ioctl(fd, &seq));
		EXPECT_LT(self->cd.seq, seq);
		EXPECT_EQ(seq, news.last);
		EXPECT_EQ(0, uevent_unaccounted(d->nl, &d->log, self->cd.seq, seq));
		self->cd.seq = seq;
	}
	close(fd);
	ASSERT_EQ(0, drive_settle(d));
	drive_check_unchanged(_metadata, d, self->cd.seq, 0);
}

FIXTURE(holder)
{
	const char *reason;
	struct cdrom cd;
};

FIXTURE_VARIANT(holder)
{
	const char *id;
	const char *part;
	int flags;
	bool opener;
};

FIXTURE_VARIANT_ADD(holder, sata_reads) {
	.id = "sata-cd",
	.part = "/ata",
	.flags = O_RDONLY,
};

FIXTURE_VARIANT_ADD(holder, sata_reads_beside_an_opener) {
	.id = "sata-cd",
	.part = "/ata",
	.flags = O_RDONLY,
	.opener = true,
};

FIXTURE_VARIANT_ADD(holder, sata_writes_exclusively) {
	.id = "sata-cd",
	.part = "/ata",
	.flags = O_RDWR | O_EXCL,
};

FIXTURE_VARIANT_ADD(holder, scsi_reads) {
	.id = "scsi-cd",
	.part = "/virtio",
	.flags = O_RDONLY,
};

FIXTURE_VARIANT_ADD(holder, scsi_reads_beside_an_opener) {
	.id = "scsi-cd",
	.part = "/virtio",
	.flags = O_RDONLY,
	.opener = true,
};

FIXTURE_VARIANT_ADD(holder, scsi_writes_exclusively) {
	.id = "scsi-cd",
	.part = "/virtio",
	.flags = O_RDWR | O_EXCL,
};

FIXTURE_SETUP(holder)
{
	self->reason = cdrom_start(_metadata, &self->cd, variant->id,
				   variant->part);
}

FIXTURE_TEARDOWN(holder)
{
	cdrom_stop(_metadata, &self->cd);
}

/*
 * A program that changes discs waits by TEST UNIT READY until the drive is
 * ready, and then reads through the descriptor that it has had all the time.
 * The kernel does not poll.
 */
TEST_F_TIMEOUT(holder, of_the_drive_reads_the_disc_that_it_waited_for, 60)
{
	struct cdrom *cd = &self->cd;
	struct watch *d = &cd->d;
	struct opener opener;
	struct news news;
	int i, j, fd;
	__u64 seq;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, disk_poll(d->name, "0"));
	if (variant->opener)
		ASSERT_EQ(0, opener_start(&opener, d->name, false));
	fd = open_disk(d->name, variant->flags | O_NONBLOCK | O_DIRECT);
	ASSERT_LE(0, fd);
	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, medium_change(&cd->qmp, cd->id, medium));
		for (j = 0; j < 10 && drive_is_ready(fd); j++)
			;
		ASSERT_EQ(0, drive_is_ready(fd));
		EXPECT_EQ(medium, medium_read(fd)) {
			TH_LOG("change %d", i);
		}
		ASSERT_EQ(0, diskseq_ioctl(fd, &seq));
		EXPECT_LT(cd->seq, seq);
		if (variant->flags & O_EXCL) {
			/* those that the event calls would get in its way */
			ASSERT_EQ(0, watch_hear(d, &news));
			EXPECT_EQ(0, news.media);
			close(fd);
			ASSERT_EQ(0, wait_for_change(d, NULL));
			ASSERT_EQ(0, diskseq_sysfs(d->name, &seq));
			fd = open_disk(d->name,
				       variant->flags | O_NONBLOCK | O_DIRECT);
			ASSERT_LE(0, fd);
		} else {
			ASSERT_EQ(0, wait_for_change(d, NULL));
			/* what it finds is of this change, not of the next */
			if (variant->opener)
				ASSERT_EQ(0, opener_settle(&opener));
			ASSERT_EQ(0, diskseq_ioctl(fd, &seq));
		}
		ASSERT_EQ(0, watch_hear(d, &news));
		EXPECT_LE(1, news.media);
		/* the tray, the disc, and the disc again if the opener found it first */
		EXPECT_GE(variant->opener ? 3 : 2, news.media);
		EXPECT_EQ(seq, news.last);
		EXPECT_EQ(0, uevent_unaccounted(d->nl, &d->log, cd->seq, seq));
		cd->seq = seq;
	}
	close(fd);
	if (variant->opener)
		opener_stop(&opener);
}

/* Wait until a disk that sends no events has a greater number. */
static int wait_for_number(const char *disk, __u64 old)
{
	long long deadline = now_ms() + PATIENCE_MS;
	__u64 seq;
	int ret;

	do {
		ret = diskseq_sysfs(disk, &seq);
		if (ret || seq > old)
			return ret;
		nap();
	} while (now_ms() < deadline);
	return -ETIMEDOUT;
}

/*
 * The drive reports a change once. It is the drive's number that changes,
 * whichever of the two devices is polled, and that of the other follows.
 */
TEST_F_TIMEOUT(cdrom, change_is_reported_though_a_packet_device_is_polled, 60)
{
	struct watch *d = &self->cd.d;
	struct news news;
	__u64 seq, last;
	__u32 dev;
	int i, ret;

	SKIP_IF(return, self->reason);

	load_module("pktcdvd", NULL);
	ASSERT_EQ(0, leftover_expect(PACKET_DISK, packet_remove));
	ret = packet_device(d->name, &dev);
	if (ret == -ENODEV) {
		leftover_gone(PACKET_DISK);
		SKIP(return, "needs pktcdvd");
	}
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, disk_poll(PACKET_DISK, POLL_MS));
	/* seldom, so that it is the other poll which comes first */
	ASSERT_EQ(0, disk_poll(d->name, "50"));
	ASSERT_EQ(0, diskseq_sysfs(PACKET_DISK, &last));
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, medium_change(&self->cd.qmp, self->cd.id,
					   i % 2 ? 'a' : 'b'));
		ASSERT_EQ(0, wait_for_change(d, NULL));
		ASSERT_EQ(0, disk_wait_for_polls(d->name, 3));
		ASSERT_EQ(0, drive_diskseq(d, &seq));
		EXPECT_LT(self->cd.seq, seq);
		ASSERT_EQ(0, watch_hear(d, &news));
		EXPECT_LE(1, news.media);
		EXPECT_GE(2, news.media);
		EXPECT_EQ(seq, news.last);
		self->cd.seq = seq;
		EXPECT_EQ(0, wait_for_number(PACKET_DISK, last)) {
			TH_LOG("change %d did not reach " PACKET_DISK, i);
		}
		ASSERT_EQ(0, diskseq_sysfs(PACKET_DISK, &seq));
		last = seq;
	}
	ASSERT_EQ(0, packet_device(NULL, &dev));
	leftover_gone(PACKET_DISK);
}

TEST_HARNESS_MAIN
