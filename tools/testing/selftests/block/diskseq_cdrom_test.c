// SPDX-License-Identifier: GPL-2.0
/*
 * CD drives, in QEMU, one behind SATA and one behind SCSI: a new number at each
 * change of the disc, whether the guest opened the tray or the host did, and
 * none for anything else that a drive may be asked or say.
 */
#define _GNU_SOURCE
#include <stdalign.h>
#include <limits.h>
#include <linux/cdrom.h>
#include <linux/pktcdvd.h>
#include <sys/prctl.h>

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

/* A block device for packet writing, on top of the drive @disk */
static int packet_device(const char *disk, __u32 *pkt_dev)
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

#define PACKET_DISK	"pktcdvd0"

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

static void packet_remove(const char *name)
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

static void set_up(struct __test_metadata *_metadata,
		   struct _test_data_cdrom *self, const char *id, const char *part)
{
	struct watch *d = &self->d;
	struct news news;
	int fd;

	memset(self, 0, sizeof(*self));
	d->nl = -1;
	self->id = id;
	ASSERT_EQ(0, qmp_start(&self->qmp, &self->reason));
	if (self->reason)
		return;
	load_module("sr_mod", NULL);
	/* a test that failed has left it */
	packet_remove(PACKET_DISK);
	if (find_drive("sr", part, d->name)) {
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

static void tear_down(struct __test_metadata *_metadata,
		      struct _test_data_cdrom *self)
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

FIXTURE_SETUP(cdrom)
{
	set_up(_metadata, self, variant->id, variant->part);
}

FIXTURE_TEARDOWN(cdrom)
{
	tear_down(_metadata, self);
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
	int i, fd, medium;
	struct news news;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < 2 * NR_QUESTIONS; i++) {
		fd = open_disk(d->name, O_RDONLY | O_NONBLOCK | O_DIRECT);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, disk_poll(d->name, "0"));
		ASSERT_EQ(0, medium_change(&self->qmp, self->id,
					   i % 2 ? 'a' : 'b'));
		ask(fd, i % NR_QUESTIONS);
		/* this looks for a change as the kernel does, but not for it */
		if (i % NR_QUESTIONS == MEDIA_CHANGED) {
			medium = medium_read(fd);
			ASSERT_EQ(0, diskseq_ioctl(fd, &seq));
			if (seq == self->seq)
				EXPECT_GT(0, medium);
		}
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

/*
 * A program keeps the drive open and reads each disc after the event of its
 * change.  No program opens the drive meanwhile.
 */
TEST_F_TIMEOUT(cdrom, each_change_under_one_descriptor_has_a_number, 60)
{
	struct watch *d = &self->d;
	long long deadline;
	struct news news;
	int i, fd, ret;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	fd = open_disk(d->name, O_RDONLY | O_NONBLOCK | O_DIRECT);
	ASSERT_LE(0, fd);
	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, medium_change(&self->qmp, self->id, medium));
		ASSERT_EQ(0, watch_wait(d, true)) {
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
		EXPECT_LT(self->seq, seq);
		EXPECT_EQ(seq, news.last);
		EXPECT_EQ(0, uevent_unaccounted(d->nl, &d->log, self->seq, seq));
		self->seq = seq;
	}
	close(fd);
	ASSERT_EQ(0, drive_settle(d));
	check_unchanged(_metadata, d, self->seq, 0);
}

/* What udev does: at each event it opens the disk and reads from it. */
static void open_at_each_event(const char *disk, int ready, int qmp)
{
	static alignas(4096) char buf[4096];
	struct timespec hold = { .tv_nsec = 5000000 };
	struct uevent ev;
	int nl, fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* only one process can have it open */
	close(qmp);
	nl = uevent_open();
	if (nl < 0 || write(ready, "", 1) != 1)
		_exit(1);
	close(ready);
	for (;;) {
		if (uevent_read(nl, &ev, PATIENCE_MS) < 0)
			_exit(1);
		if (strcmp(ev.disk, disk) || ev.uuid[0])
			continue;
		fd = open_disk(disk, O_RDONLY | O_NONBLOCK);
		if (fd < 0)
			continue;
		flock(fd, LOCK_SH | LOCK_NB);
		if (pread(fd, buf, sizeof(buf), 0) == sizeof(buf))
			nanosleep(&hold, NULL);
		close(fd);
	}
}

static pid_t opener_start(const char *disk, const struct qmp *qmp)
{
	int fds[2];
	pid_t pid;
	char c;

	if (pipe(fds))
		return -1;
	pid = fork();
	if (!pid) {
		close(fds[0]);
		open_at_each_event(disk, fds[1], qmp->fd);
	}
	close(fds[1]);
	if (pid > 0 && read(fds[0], &c, 1) != 1) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(fds[0]);
	return pid;
}

FIXTURE(holder)
{
	struct _test_data_cdrom cd;
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
	set_up(_metadata, &self->cd, variant->id, variant->part);
}

FIXTURE_TEARDOWN(holder)
{
	tear_down(_metadata, &self->cd);
}

/*
 * A program that changes discs waits by TEST UNIT READY until the drive is
 * ready, and then reads through the descriptor that it has had all the time.
 * The kernel does not poll.
 */
TEST_F_TIMEOUT(holder, of_the_drive_reads_the_disc_that_it_waited_for, 60)
{
	struct _test_data_cdrom *cd = &self->cd;
	struct watch *d = &cd->d;
	struct news news;
	pid_t pid = 0;
	int i, j, fd, other;
	__u64 seq;

	if (cd->reason)
		SKIP(return, "%s", cd->reason);

	ASSERT_EQ(0, disk_poll(d->name, "0"));
	if (variant->opener) {
		pid = opener_start(d->name, &cd->qmp);
		ASSERT_LT(0, pid);
	}
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
			ASSERT_EQ(0, watch_wait(d, true));
			ASSERT_EQ(0, diskseq_sysfs(d->name, &seq));
			fd = open_disk(d->name,
				       variant->flags | O_NONBLOCK | O_DIRECT);
			ASSERT_LE(0, fd);
		} else {
			ASSERT_EQ(0, watch_wait(d, true));
		}
		ASSERT_EQ(0, watch_hear(d, &news));
		EXPECT_LE(1, news.media);
		EXPECT_GE(2, news.media);
		EXPECT_EQ(seq, news.last);
		EXPECT_EQ(0, uevent_unaccounted(d->nl, &d->log, cd->seq, seq));
		cd->seq = seq;
		if (pid) {
			/* the opener may be late: deal with this change before the next */
			other = open_disk(d->name, O_RDONLY | O_NONBLOCK);
			ASSERT_LE(0, other);
			close(other);
			ASSERT_EQ(0, watch_settle(d));
			ASSERT_EQ(0, diskseq_ioctl(fd, &cd->seq));
		}
	}
	close(fd);
	if (pid) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
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
	while (!ret) {
		ret = uevent_read(d->nl, ev, PATIENCE_MS);
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		ret = 0;
		if (uevent_is_add(ev) && !strncmp(ev->disk, "sr", 2))
			break;
	}
	if (ret)
		return ret;
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
	struct watch *d = &self->d;
	struct uevent ev;
	struct news news;
	__u64 last = 0, seq;
	size_t i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < sizeof(discs); i++) {
		ASSERT_EQ(0, setting_restore(self->poll));
		if (discs[i])
			ASSERT_EQ(0, medium_none(&self->qmp, self->id));
		ASSERT_EQ(0, plug_in_again(&self->qmp, d, self->id, discs[i],
					   &ev));
		disk_path(self->poll, d->name, "events_poll_msecs");
		ASSERT_EQ(0, setting_change(self->poll, POLL_MS));
		EXPECT_LT(last, ev.diskseq);
		last = ev.diskseq;
		d->highest = 0;
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

/*
 * The drive reports a change once.  It is the drive's number that changes,
 * whichever of the two devices is polled, and that of the other follows.
 */
TEST_F_TIMEOUT(cdrom, change_is_reported_though_a_packet_device_is_polled, 60)
{
	struct watch *d = &self->d;
	struct news news;
	__u64 seq, last;
	__u32 dev;
	int i, ret;

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
	ASSERT_EQ(0, disk_poll(d->name, "200"));
	ASSERT_EQ(0, diskseq_sysfs(PACKET_DISK, &last));
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, medium_change(&self->qmp, self->id,
					   i % 2 ? 'a' : 'b'));
		ASSERT_EQ(0, watch_wait(d, true));
		ASSERT_EQ(0, disk_wait_for_polls(d->name, 3));
		ASSERT_EQ(0, drive_diskseq(d, &seq));
		EXPECT_LT(self->seq, seq);
		ASSERT_EQ(0, watch_hear(d, &news));
		EXPECT_LE(1, news.media);
		EXPECT_GE(2, news.media);
		EXPECT_EQ(seq, news.last);
		self->seq = seq;
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
