// SPDX-License-Identifier: GPL-2.0
/*
 * CD drives, in QEMU, one behind SATA and one behind SCSI: a new number at each
 * change of the disc, whether the guest opened the tray or the host did, and
 * none for anything else that a drive may be asked or say.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/cdrom.h>

#include "../kselftest_harness.h"
#include "diskseq_drive.h"
#include "diskseq_qmp.h"
#include "diskseq_suspend.h"

#define NR_CHANGES	(test_rounds(30) / 3)
#define POLL_MS		"2"
/*
 * In a minute the kernel polls 30 times, each two seconds as udev asks it to.
 * Nothing but the number of polls matters to driver and drive (the driver
 * counts those on which the drive contradicts itself, up to eight): five minutes.
 */
#define NR_POLLS	150

FIXTURE(cdrom)
{
	const char *reason;
	struct watch d;
	struct qmp qmp;
	const char *id;
	char poll[128];		/* the setting */
	__u64 seq;		/* what the last check_*() has found */
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
	struct watch *d = &self->d;
	struct news news;
	int fd;

	memset(self, 0, sizeof(*self));
	d->nl = -1;
	self->id = variant->id;
	ASSERT_EQ(0, qmp_start(&self->qmp, &self->reason));
	if (self->reason)
		return;
	load_module("sr_mod", NULL);
	if (find_drive("sr", variant->part, d->name)) {
		self->reason = "needs the CD drive of QEMU";
		return;
	}
	fd = open_disk(d->name, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	if (!has_diskseq(d->name, fd))
		self->reason = "kernel has no disk sequence numbers";
	close(fd);
	if (self->reason)
		return;
	d->nl = uevent_open();
	ASSERT_LE(0, d->nl);
	ASSERT_EQ(0, media_none(&self->qmp));
	ASSERT_EQ(0, medium_insert(&self->qmp, self->id, 'a'));
	disk_path(self->poll, d->name, "events_poll_msecs");
	ASSERT_EQ(0, setting_change(self->poll, POLL_MS));
	ASSERT_EQ(0, drive_settle(d));
	ASSERT_EQ(0, watch_hear(d, &news));
	ASSERT_EQ(0, drive_diskseq(d, &self->seq));
}

FIXTURE_TEARDOWN(cdrom)
{
	struct watch *d = &self->d;

	if (d->nl >= 0) {
		EXPECT_EQ(0, media_none(&self->qmp));
		EXPECT_EQ(0, setting_restore(self->poll));
		close(d->nl);
	}
	qmp_close(&self->qmp);
	free(d->log.ev);
}

/* As eject(1) does: the kernel looks what has become of the disc at the close. */
static int move_tray(const struct watch *d, unsigned long request)
{
	int fd, ret;

	fd = open_disk(d->name, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return fd;
	ret = ioctl(fd, request) ? -errno : 0;
	close(fd);
	return ret;
}

TEST_F(cdrom, change_by_the_host_has_a_new_number)
{
	int i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, medium_change(&self->qmp, self->id, medium));
		check_changed(_metadata, &self->d, &self->seq);
		EXPECT_EQ(medium, medium_read_once(self->d.name));
	}
}

TEST_F(cdrom, disc_taken_out_and_put_in_has_a_new_number)
{
	int i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, medium_none(&self->qmp, self->id));
		check_changed(_metadata, &self->d, &self->seq);
		EXPECT_EQ(-ENOMEDIUM, medium_read_once(self->d.name));
		ASSERT_EQ(0, medium_insert(&self->qmp, self->id, 'a'));
		check_changed(_metadata, &self->d, &self->seq);
		EXPECT_EQ('a', medium_read_once(self->d.name));
	}
}

TEST_F(cdrom, eject_and_close_by_the_guest_have_new_numbers)
{
	int i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, move_tray(&self->d, CDROMEJECT));
		check_changed(_metadata, &self->d, &self->seq);
		/* every second time it is the same again */
		if (i % 4 < 2) {
			ASSERT_EQ(0, medium_remove(&self->qmp, self->id));
			ASSERT_EQ(0, medium_put(&self->qmp, self->id, medium));
		}
		ASSERT_EQ(0, move_tray(&self->d, CDROMCLOSETRAY));
		check_changed(_metadata, &self->d, &self->seq);
		EXPECT_LT(0, medium_read_once(self->d.name));
	}
}

TEST_F(cdrom, polls_and_opens_without_change_draw_nothing)
{
	struct watch *d = &self->d;
	int i, state;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	/* with a disc, with none, and with the tray open */
	for (state = 0; state < 3; state++) {
		if (state == 1) {
			ASSERT_EQ(0, medium_none(&self->qmp, self->id));
			check_changed(_metadata, &self->d, &self->seq);
		}
		/* which is no change, as there is no disc */
		if (state == 2)
			ASSERT_EQ(0, move_tray(d, CDROMEJECT));
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, disk_wait_for_polls(d->name,
							 NR_POLLS / 2));
			ASSERT_EQ(0, disk_look(d->name));
			check_unchanged(_metadata, d, self->seq, 0);
		}
	}
}

/* The discs hold nothing that a filesystem knows. */
TEST_F(cdrom, disc_that_is_no_filesystem_keeps_its_number)
{
	char dir[] = "/tmp/diskseq-XXXXXX", path[64];
	struct watch *d = &self->d;
	int i, fd, ret, err;

	if (self->reason)
		SKIP(return, "%s", self->reason);
	load_module("isofs", NULL);

	ASSERT_NE(NULL, mkdtemp(dir));
	for (i = 0; i < 2; i++) {
		/* also while there is none */
		if (i) {
			ASSERT_EQ(0, medium_none(&self->qmp, self->id));
			check_changed(_metadata, d, &self->seq);
		}
		fd = open_disk(d->name, O_RDONLY | O_NONBLOCK);
		ASSERT_LE(0, fd);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ret = syscall(__NR_mount, path, dir, "iso9660", 1UL /* MS_RDONLY */, NULL);
		err = errno;
		EXPECT_EQ(-1, ret) {
			syscall(__NR_umount2, dir, 0);
		}
		if (err == ENODEV) {
			close(fd);
			rmdir(dir);
			SKIP(return, "needs iso9660");
		}
		EXPECT_EQ(i ? ENOMEDIUM : EINVAL, err);
		close(fd);
		ASSERT_EQ(0, disk_look(d->name));
		ASSERT_EQ(0, disk_wait_for_polls(d->name, 3));
		check_unchanged(_metadata, d, self->seq, 0);
	}
	/* nothing is mounted there */
	EXPECT_EQ(0, rmdir(dir));
}

/* The host asks for a disc whose door is locked, as the button does. */
TEST_F(cdrom, eject_request_draws_nothing)
{
	struct watch *d = &self->d;
	int i, fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		fd = open_disk(d->name, O_RDONLY);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, tray_open(&self->qmp, self->id, false));
		ASSERT_EQ(0, watch_wait(d, false));
		ASSERT_EQ(0, disk_wait_for_polls(d->name, 3));
		check_unchanged(_metadata, d, self->seq, 1);
		close(fd);
		ASSERT_EQ(0, disk_look(d->name));
		ASSERT_EQ(0, disk_wait_for_polls(d->name, 3));
		check_unchanged(_metadata, d, self->seq, 0);
		EXPECT_EQ('a', medium_read_once(d->name));
	}
}

/* What is read then is what the number is of. */
TEST_F(cdrom, open_that_closes_the_tray_finds_the_disc)
{
	struct watch *d = &self->d;
	__u64 before;
	int i, fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, move_tray(d, CDROMEJECT));
		check_changed(_metadata, &self->d, &self->seq);
		ASSERT_EQ(0, medium_remove(&self->qmp, self->id));
		ASSERT_EQ(0, medium_put(&self->qmp, self->id, medium));

		fd = open_disk(d->name, O_RDONLY | O_DIRECT);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, diskseq_ioctl(fd, &before));
		EXPECT_LT(self->seq, before);
		EXPECT_EQ(medium, medium_read(fd));
		close(fd);
		check_changed(_metadata, &self->d, &self->seq);
		EXPECT_EQ(before, self->seq);
	}
}

/* Who hears from the drive that it was reset may take the disc for another. */
TEST_F(cdrom, disc_keeps_its_number_while_the_machine_sleeps)
{
	struct watch *d = &self->d;
	struct news news;
	__u64 seq;
	int ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ret = suspend_and_resume();
	if (ret == -ENODEV)
		SKIP(return, "needs CONFIG_SUSPEND and CONFIG_PM_DEBUG");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, drive_settle(d));
	if (variant->reset) {
		ASSERT_EQ(0, watch_hear(d, &news));
		ASSERT_EQ(0, drive_diskseq(d, &seq));
		EXPECT_EQ(self->seq < seq, news.media > 0);
		EXPECT_EQ(0, news.decreases);
		if (news.media)
			EXPECT_EQ(seq, news.last);
	} else {
		check_unchanged(_metadata, d, self->seq, 0);
	}
	EXPECT_EQ('a', medium_read_once(d->name));
}

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

/* Who is told first is not the only one who is to know. */
TEST_F(cdrom, change_that_somebody_asked_for_has_a_new_number)
{
	struct watch *d = &self->d;
	struct news news;
	__u64 seq;
	int i, fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < 2 * NR_QUESTIONS; i++) {
		fd = open_disk(d->name, O_RDONLY | O_NONBLOCK);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, disk_poll(d->name, "0"));
		ASSERT_EQ(0, medium_change(&self->qmp, self->id,
					   i % 2 ? 'a' : 'b'));
		ask(fd, i % NR_QUESTIONS);
		ASSERT_EQ(0, disk_poll(d->name, POLL_MS));
		EXPECT_EQ(0, watch_wait(d, true)) {
			TH_LOG("lost by question %d", i % NR_QUESTIONS);
		}
		close(fd);
		ASSERT_EQ(0, drive_settle(d));
		ASSERT_EQ(0, watch_hear(d, &news));
		ASSERT_EQ(0, drive_diskseq(d, &seq));
		EXPECT_LT(self->seq, seq);
		self->seq = seq;
	}
}

TEST_HARNESS_MAIN
