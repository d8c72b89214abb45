// SPDX-License-Identifier: GPL-2.0
/*
 * USB sticks, in QEMU: one that is plugged in is a new disk with a new number,
 * and one whose medium is changed gets a new number, whichever command the stick
 * reports it to.
 *
 * Needs the monitor of QEMU, see diskseq_qmp.h, and skips on other machines.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq.h"
#include "diskseq_drive.h"
#include "diskseq_qmp.h"
#include "diskseq_suspend.h"

#define NR_CHANGES	5
#define POLL_MS		"2"
#define NR_POLLS	150

/*
 * The drive of the stick in QEMU's object tree, the only part of the stick that
 * has a medium.
 */
#define STICK_DRIVE	"/machine/peripheral/" STICK "/" STICK ".0/legacy[0]"
#define SLOW		"diskseq-slow"
/* Before it looks for disks, the driver waits, in seconds. */
#define DELAY		"/sys/module/usb_storage/parameters/delay_use"

FIXTURE(stick)
{
	const char *reason;
	struct watch d;
	struct qmp qmp;
	__u64 seq;
};

/* The next event of a USB disk that is added or removed */
static int wait_for_stick(struct watch *d, bool (*is)(const struct uevent *ev),
			  struct uevent *ev)
{
	return uevent_wait_for_disk(d->nl, &d->log, is, "/usb", ev);
}

static int plug_in(struct qmp *qmp, struct watch *d, const char *node,
		   struct uevent *ev)
{
	int ret;

	ret = qmp_command(qmp, "device_add",
			  "\"driver\": \"usb-storage\", \"id\": \"%s\", \"bus\": \"usb.0\", \"removable\": true, \"drive\": \"%s\"",
			  STICK, node);
	if (!ret)
		ret = wait_for_stick(d, uevent_is_add, ev);
	if (ret)
		return ret;
	snprintf(d->name, sizeof(d->name), "%s", ev->disk);
	/* the event comes before the driver is through: this waits for it */
	return disk_rescan(d->name);
}

static int pull_out(struct qmp *qmp)
{
	return qmp_command(qmp, "device_del", "\"id\": \"%s\"", STICK);
}

FIXTURE_SETUP(stick)
{
	struct watch *d = &self->d;
	struct news news;
	struct uevent ev;
	int fd;

	memset(self, 0, sizeof(*self));
	d->nl = -1;
	ASSERT_EQ(0, qmp_start(&self->qmp, &self->reason));
	if (self->reason)
		return;
	load_module("xhci_pci", NULL);
	load_module("usb_storage", NULL);
	load_module("sd_mod", NULL);
	if (access(DELAY, F_OK) || access("/sys/bus/usb/devices/usb1", F_OK)) {
		self->reason = "needs a USB bus, and the driver of sticks";
		return;
	}
	ASSERT_EQ(0, setting_change(DELAY, "0"));
	ASSERT_EQ(0, media_none(&self->qmp));
	/* and what else a test that failed has left */
	qmp_ask(&self->qmp, "blockdev-del", "\"node-name\": \"" SLOW "\"");
	d->nl = uevent_open();
	ASSERT_LE(0, d->nl);
	ASSERT_EQ(0, plug_in(&self->qmp, d, "medium-a", &ev));
	fd = open_disk(d->name, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	if (!has_diskseq(d->name, fd))
		self->reason = "kernel has no disk sequence numbers";
	close(fd);
	if (self->reason)
		return;
	ASSERT_EQ(0, disk_poll(d->name, POLL_MS));
	/*
	 * A first change, since numbers may have been assigned for the device
	 * that no event announces.
	 */
	ASSERT_EQ(0, medium_change(&self->qmp, STICK_DRIVE, 'a'));
	ASSERT_EQ(0, wait_for_change(d, NULL));
	ASSERT_EQ(0, drive_settle(d));
	ASSERT_EQ(0, watch_hear(d, &news));
	ASSERT_EQ(0, drive_diskseq(d, &self->seq));
}

FIXTURE_TEARDOWN(stick)
{
	struct watch *d = &self->d;
	struct uevent ev;

	if (d->name[0]) {
		EXPECT_EQ(0, pull_out(&self->qmp));
		EXPECT_EQ(0, wait_for_stick(d, uevent_is_remove, &ev));
	}
	EXPECT_EQ(0, setting_restore(DELAY));
	qmp_close(&self->qmp);
	watch_close(d);
}

TEST_F(stick, that_is_plugged_in_again_is_a_new_disk)
{
	struct watch *d = &self->d;
	struct news news;
	struct uevent ev;
	__u64 seq;
	int i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		char node[] = "medium-b";

		if (i % 2)
			node[7] = 'a';
		ASSERT_EQ(0, pull_out(&self->qmp));
		ASSERT_EQ(0, wait_for_stick(d, uevent_is_remove, &ev));
		/* that there is no medium may have been found before */
		EXPECT_LE(self->seq, ev.diskseq);
		ASSERT_EQ(0, plug_in(&self->qmp, d, node, &ev));
		EXPECT_LT(self->seq, ev.diskseq);
		ASSERT_EQ(0, disk_poll(d->name, POLL_MS));
		ASSERT_EQ(0, drive_settle(d));
		ASSERT_EQ(0, drive_diskseq(d, &seq));
		EXPECT_LE(ev.diskseq, seq);
		ASSERT_EQ(0, watch_hear(d, &news));
		EXPECT_EQ(0, news.decreases);
		EXPECT_EQ(node[7], medium_read_once(d->name));
		self->seq = seq;
	}
}

TEST_F(stick, new_medium_has_a_new_number)
{
	struct watch *d = &self->d;
	int i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		char medium = i % 2 ? 'a' : 'b';

		ASSERT_EQ(0, medium_change(&self->qmp, STICK_DRIVE, medium));
		drive_check_changed(_metadata, &self->d, &self->seq);
		EXPECT_EQ(medium, medium_read_once(d->name));
	}
	/* and that there is none is a change too */
	ASSERT_EQ(0, medium_none(&self->qmp, STICK_DRIVE));
	drive_check_changed(_metadata, &self->d, &self->seq);
	EXPECT_EQ(-ENOMEDIUM, medium_read_once(d->name));
	/* as often as the kernel polls in five minutes, if udev asks it to */
	ASSERT_EQ(0, disk_wait_for_polls(d->name, NR_POLLS));
	drive_check_unchanged(_metadata, d, self->seq, 0);
	ASSERT_EQ(0, medium_insert(&self->qmp, STICK_DRIVE, 'a'));
	drive_check_changed(_metadata, &self->d, &self->seq);
	EXPECT_EQ('a', medium_read_once(d->name));
	ASSERT_EQ(0, disk_wait_for_polls(d->name, NR_POLLS));
	drive_check_unchanged(_metadata, d, self->seq, 0);
}

/*
 * A stick reports its new medium to the next commands, whichever program sends them.
 * Until the number is new the medium must not be read, though the kernel has not
 * noticed the change.
 */
TEST_F(stick, new_medium_that_another_heard_of_is_not_read_under_the_old_number)
{
	struct watch *d = &self->d;
	struct news news;
	__u64 seq;
	int i, j, fd, medium;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		fd = open_disk(d->name, O_RDONLY | O_DIRECT);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, disk_poll(d->name, "0"));
		ASSERT_EQ(0, medium_change(&self->qmp, STICK_DRIVE,
					   i % 2 ? 'a' : 'b'));
		for (j = 0; j < 10 && drive_is_ready(fd); j++)
			;
		ASSERT_EQ(0, drive_is_ready(fd));
		medium = medium_read(fd);
		ASSERT_EQ(0, diskseq_ioctl(fd, &seq));
		if (seq == self->seq)
			EXPECT_GT(0, medium);
		close(fd);
		ASSERT_EQ(0, disk_poll(d->name, POLL_MS));
		ASSERT_EQ(0, drive_settle(d));
		ASSERT_EQ(0, drive_diskseq(d, &seq));
		EXPECT_LT(self->seq, seq);
		ASSERT_EQ(0, watch_hear(d, &news));
		EXPECT_LE(1, news.media);
		EXPECT_EQ(seq, news.last);
		self->seq = seq;
	}
}

struct reader {
	pthread_t thread;
	int fd;
	int error;
};

static void *read_until_it_fails(void *arg)
{
	struct reader *reader = arg;
	void *buf;

	if (posix_memalign(&buf, PAGE, PAGE)) {
		reader->error = ENOMEM;
		return NULL;
	}
	while (pread(reader->fd, buf, PAGE, 0) == PAGE)
		;
	reader->error = errno;
	free(buf);
	return NULL;
}

TEST_F(stick, keeps_its_number_while_the_machine_sleeps)
{
	struct watch *d = &self->d;

	SKIP_IF(return, self->reason);
	SKIP_IF(return, suspend_unusable());

	ASSERT_EQ(0, suspend_and_resume());
	ASSERT_EQ(0, drive_settle(d));
	drive_check_unchanged(_metadata, d, self->seq, 0);
	EXPECT_EQ('a', medium_read_once(d->name));
}

TEST_F(stick, pulled_while_it_is_read_fails_the_read)
{
	struct watch *d = &self->d;
	struct reader reader = {};
	struct uevent ev;
	struct timespec end;
	int i;

	SKIP_IF(return, self->reason);

	/* each read takes a while, so that it is the one that the pull meets */
	ASSERT_EQ(0, qmp_command(&self->qmp, "blockdev-add",
				 "\"driver\": \"null-co\", \"node-name\": \"%s\", \"size\": 1048576, \"latency-ns\": 100000000, \"read-zeroes\": true",
				 SLOW));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, pull_out(&self->qmp));
		ASSERT_EQ(0, wait_for_stick(d, uevent_is_remove, &ev));
		ASSERT_EQ(0, plug_in(&self->qmp, d, SLOW, &ev));
		self->seq = ev.diskseq;
		reader.fd = open_disk(d->name, O_RDONLY | O_DIRECT);
		ASSERT_LE(0, reader.fd);
		ASSERT_EQ(0, pthread_create(&reader.thread, NULL,
					    read_until_it_fails, &reader));
		ASSERT_EQ(0, disk_wait_for_inflight(d->name, NULL));
		ASSERT_EQ(0, pull_out(&self->qmp));
		clock_gettime(CLOCK_REALTIME, &end);
		end.tv_sec += PATIENCE_MS / 1000;
		ASSERT_EQ(0, pthread_timedjoin_np(reader.thread, NULL, &end));
		EXPECT_NE(0, reader.error);
		close(reader.fd);
		ASSERT_EQ(0, wait_for_stick(d, uevent_is_remove, &ev));
		ASSERT_EQ(0, plug_in(&self->qmp, d, "medium-a", &ev));
		EXPECT_LT(self->seq, ev.diskseq);
		EXPECT_EQ('a', medium_read_once(d->name));
	}
	ASSERT_EQ(0, pull_out(&self->qmp));
	ASSERT_EQ(0, wait_for_stick(d, uevent_is_remove, &ev));
	d->name[0] = '\0';
	EXPECT_EQ(0, qmp_command(&self->qmp, "blockdev-del",
				 "\"node-name\": \"%s\"", SLOW));
}

TEST_HARNESS_MAIN
