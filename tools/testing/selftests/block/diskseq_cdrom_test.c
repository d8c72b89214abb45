// SPDX-License-Identifier: GPL-2.0
/*
 * CD drives, in QEMU, one behind SATA and one behind SCSI: a new number at each
 * change of the disc, whether the guest opened the tray or the host did, and none
 * for anything else that a drive may be asked or report.
 *
 * Needs the monitor of QEMU, see diskseq_qmp.h, and skips on other machines.
 */
#define _GNU_SOURCE
#include <linux/cdrom.h>

#include "diskseq.h"
#include "diskseq_cdrom.h"
#include "diskseq_suspend.h"

#define NR_CHANGES	(test_rounds(30) / 3)
/*
 * In a minute the kernel polls 30 times, each two seconds as udev asks it to.
 * Nothing but the number of polls matters to driver and drive (the driver
 * counts those on which the drive contradicts itself, up to eight): five minutes.
 */
#define NR_POLLS	150

/* As eject(1) does: the kernel checks the disc at the close. */
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

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, medium_change(&self->cd.qmp, self->cd.id, medium));
		drive_check_changed(_metadata, &self->cd.d, &self->cd.seq);
		EXPECT_EQ(medium, medium_read_once(self->cd.d.name));
	}
}

TEST_F(cdrom, disc_taken_out_and_put_in_has_a_new_number)
{
	int i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, medium_none(&self->cd.qmp, self->cd.id));
		drive_check_changed(_metadata, &self->cd.d, &self->cd.seq);
		EXPECT_EQ(-ENOMEDIUM, medium_read_once(self->cd.d.name));
		ASSERT_EQ(0, medium_insert(&self->cd.qmp, self->cd.id, 'a'));
		drive_check_changed(_metadata, &self->cd.d, &self->cd.seq);
		EXPECT_EQ('a', medium_read_once(self->cd.d.name));
	}
}

TEST_F(cdrom, eject_and_close_by_the_guest_have_new_numbers)
{
	int i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, move_tray(&self->cd.d, CDROMEJECT));
		drive_check_changed(_metadata, &self->cd.d, &self->cd.seq);
		/* every second time it is the same again */
		if (i % 4 < 2) {
			ASSERT_EQ(0, medium_remove(&self->cd.qmp, self->cd.id));
			ASSERT_EQ(0, medium_put(&self->cd.qmp, self->cd.id, medium));
		}
		ASSERT_EQ(0, move_tray(&self->cd.d, CDROMCLOSETRAY));
		drive_check_changed(_metadata, &self->cd.d, &self->cd.seq);
		EXPECT_LT(0, medium_read_once(self->cd.d.name));
	}
}

TEST_F(cdrom, polls_and_opens_without_change_assign_nothing)
{
	struct watch *d = &self->cd.d;
	int i, state;

	SKIP_IF(return, self->reason);

	/* with a disc, with none, and with the tray open */
	for (state = 0; state < 3; state++) {
		if (state == 1) {
			ASSERT_EQ(0, medium_none(&self->cd.qmp, self->cd.id));
			drive_check_changed(_metadata, &self->cd.d, &self->cd.seq);
		}
		/* which is no change, as there is no disc */
		if (state == 2)
			ASSERT_EQ(0, move_tray(d, CDROMEJECT));
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, disk_wait_for_polls(d->name,
							 NR_POLLS / 2));
			ASSERT_EQ(0, disk_look(d->name));
			drive_check_unchanged(_metadata, d, self->cd.seq, 0);
		}
	}
}

/* The discs have no filesystem. */
TEST_F(cdrom, disc_that_is_no_filesystem_keeps_its_number)
{
	char dir[] = "/tmp/diskseq-XXXXXX", path[64];
	struct watch *d = &self->cd.d;
	int i, fd, ret, err;

	SKIP_IF(return, self->reason);
	load_module("isofs", NULL);

	ASSERT_NE(NULL, mkdtemp(dir));
	for (i = 0; i < 2; i++) {
		/* also while there is none */
		if (i) {
			ASSERT_EQ(0, medium_none(&self->cd.qmp, self->cd.id));
			drive_check_changed(_metadata, d, &self->cd.seq);
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
		drive_check_unchanged(_metadata, d, self->cd.seq, 0);
	}
	/* nothing is mounted there */
	EXPECT_EQ(0, rmdir(dir));
}

/* The host asks for a disc whose door is locked, as the button does. */
TEST_F(cdrom, eject_request_assigns_nothing)
{
	struct watch *d = &self->cd.d;
	struct uevent ev;
	int i, fd;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		fd = open_disk(d->name, O_RDONLY);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, tray_open(&self->cd.qmp, self->cd.id, false));
		ASSERT_EQ(0, watch_wait(d, uevent_is_eject_request, PATIENCE_MS,
					&ev));
		ASSERT_EQ(0, disk_wait_for_polls(d->name, 3));
		drive_check_unchanged(_metadata, d, self->cd.seq, 1);
		close(fd);
		ASSERT_EQ(0, disk_look(d->name));
		ASSERT_EQ(0, disk_wait_for_polls(d->name, 3));
		drive_check_unchanged(_metadata, d, self->cd.seq, 0);
		EXPECT_EQ('a', medium_read_once(d->name));
	}
}

/* The data that is read then is from the disc that the number stands for. */
TEST_F(cdrom, open_that_closes_the_tray_finds_the_disc)
{
	struct watch *d = &self->cd.d;
	__u64 before;
	int i, fd;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, move_tray(d, CDROMEJECT));
		drive_check_changed(_metadata, &self->cd.d, &self->cd.seq);
		ASSERT_EQ(0, medium_remove(&self->cd.qmp, self->cd.id));
		ASSERT_EQ(0, medium_put(&self->cd.qmp, self->cd.id, medium));

		fd = open_disk(d->name, O_RDONLY | O_DIRECT);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, diskseq_ioctl(fd, &before));
		EXPECT_LT(self->cd.seq, before);
		EXPECT_EQ(medium, medium_read(fd));
		close(fd);
		drive_check_changed(_metadata, &self->cd.d, &self->cd.seq);
		EXPECT_EQ(before, self->cd.seq);
	}
}

/* A driver that learns from the drive that it was reset may take the disc for another. */
TEST_F(cdrom, disc_keeps_its_number_while_the_machine_sleeps)
{
	struct watch *d = &self->cd.d;
	struct news news;
	__u64 seq;

	SKIP_IF(return, self->reason);
	SKIP_IF(return, suspend_unusable());

	ASSERT_EQ(0, suspend_and_resume());
	ASSERT_EQ(0, drive_settle(d));
	if (variant->reset) {
		ASSERT_EQ(0, watch_hear(d, &news));
		ASSERT_EQ(0, drive_diskseq(d, &seq));
		EXPECT_EQ(self->cd.seq < seq, news.media > 0);
		EXPECT_EQ(0, news.decreases);
		if (news.media)
			EXPECT_EQ(seq, news.last);
	} else {
		drive_check_unchanged(_metadata, d, self->cd.seq, 0);
	}
	EXPECT_EQ('a', medium_read_once(d->name));
}

/* As if the drive was plugged in: its first disc is no change. */
static int plug_in_again(struct qmp *qmp, struct watch *d, const char *id,
			 int disc, struct uevent *ev)
{
	char path[128], link[PATH_MAX], scan[64], where[64], *name;
	int ret, host, channel, target, lun;
	long long deadline;
	ssize_t len;

	disk_path(path, d->name, "device");
	len = readlink(path, link, sizeof(link) - 1);
	if (len < 0)
		return -errno;
	link[len] = '\0';
	name = strrchr(link, '/');
	if (!name || sscanf(name + 1, "%d:%d:%d:%d", &host, &channel, &target,
			    &lun) != 4)
		return -EINVAL;
	snprintf(scan, sizeof(scan), "/sys/class/scsi_host/host%d/scan", host);
	snprintf(where, sizeof(where), "%d %d %d", channel, target, lun);
	disk_path(path, d->name, "device/delete");
	ret = write_text(path, "1");
	if (!ret)
		ret = disc ? medium_insert(qmp, id, disc) : medium_none(qmp, id);
	if (!ret)
		ret = write_text(scan, where);
	if (!ret)
		ret = uevent_wait_for_disk(d->nl, &d->log, uevent_is_add,
					   "/block/sr", ev);
	if (ret)
		return ret;
	/* a poll may have missed the disc before the drive was pulled out */
	d->mark = d->log.nr;
	snprintf(d->name, sizeof(d->name), "%s", ev->disk);
	/* the event may come before the driver is through */
	deadline = now_ms() + PATIENCE_MS;
	disk_path(path, d->name, "events_poll_msecs");
	while (access(path, F_OK)) {
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		nap();
	}
	return 0;
}

TEST_F_TIMEOUT(cdrom, drive_that_is_plugged_in_has_one_number, 60)
{
	static const char discs[] = { 'a', 0, 'b', 'a' };
	struct watch *d = &self->cd.d;
	struct uevent ev;
	struct news news;
	__u64 last = 0, seq;
	size_t i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < sizeof(discs); i++) {
		ASSERT_EQ(0, setting_restore(self->cd.poll));
		if (discs[i])
			ASSERT_EQ(0, medium_none(&self->cd.qmp, self->cd.id));
		ASSERT_EQ(0, plug_in_again(&self->cd.qmp, d, self->cd.id, discs[i],
					   &ev));
		disk_path(self->cd.poll, d->name, "events_poll_msecs");
		ASSERT_EQ(0, setting_change(self->cd.poll, POLL_MS));
		EXPECT_LT(last, ev.diskseq);
		last = ev.diskseq;
		d->last_seen = 0;
		ASSERT_EQ(0, disk_wait_for_polls(d->name, 10));
		EXPECT_EQ(discs[i] ? discs[i] : -ENOMEDIUM,
			  medium_read_once(d->name));
		ASSERT_EQ(0, drive_settle(d));
		ASSERT_EQ(0, watch_hear(d, &news));
		EXPECT_EQ(0, news.media) {
			TH_LOG("plugged in %zu times, with%s disc", i + 1,
			       discs[i] ? "" : "out");
		}
		ASSERT_EQ(0, diskseq_sysfs(d->name, &seq));
		EXPECT_EQ(last, seq);
	}
}

TEST_HARNESS_MAIN
