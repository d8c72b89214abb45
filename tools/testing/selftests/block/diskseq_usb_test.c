// SPDX-License-Identifier: GPL-2.0
/*
 * A USB stick with a removable medium, found by the real drivers: each medium has a
 * number of its own, whichever command the stick reports it to, and each stick that
 * is plugged in is a new disk.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq.h"
#include "diskseq_gadget.h"
#include "diskseq_table.h"

#define NR_CHANGES	5
#define READ_NSEC	"300000000"	/* of the slow medium */
#define SLOW_SIZE	(2 << 20)
#define SLOW_STRIDE	(256 << 10)

FIXTURE(stick)
{
	const char *reason;
	struct stick s;
};

FIXTURE_SETUP(stick)
{
	self->reason = gadget_setup(_metadata, &self->s, POLL_MS);
}

FIXTURE_TEARDOWN(stick)
{
	gadget_teardown(_metadata, &self->s);
}

TEST_F(stick, medium_out_and_medium_in_have_new_numbers)
{
	struct stick *s = &self->s;
	__u64 before, out, in, now, last = 0;
	int i, medium;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		medium = (i + 1) % NR_MEDIA;
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
		ASSERT_EQ(0, take_out());
		ASSERT_EQ(0, wait_for_change(&s->w, &out));
		EXPECT_GT(out, before);
		ASSERT_EQ(0, disk_look(s->w.name));
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &now));
		EXPECT_EQ(out, now);
		EXPECT_EQ(-ENOMEDIUM, open_disk(s->w.name, O_RDONLY));
		/* an empty drive reports that it is empty each time */
		ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 3));
		EXPECT_EQ(1, watch_changes(&s->w, &last));

		ASSERT_EQ(0, insert(s->media[medium]));
		ASSERT_EQ(0, wait_for_change(&s->w, &in));
		EXPECT_GT(in, out);
		EXPECT_EQ(medium + 1, read_medium(s, in));
		ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 3));
		EXPECT_EQ(1, watch_changes(&s->w, &last));
		EXPECT_EQ(in, last);
		EXPECT_EQ(0, uevent_unaccounted(s->w.nl, &s->w.log, before, in));
	}
}

TEST_F(stick, medium_in_the_place_of_another_has_a_new_number)
{
	struct stick *s = &self->s;
	__u64 before, after, last = 0;
	int i, medium;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		medium = (i + 1) % NR_MEDIA;
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
		ASSERT_EQ(0, insert(s->media[medium]));
		ASSERT_EQ(0, wait_for_change(&s->w, &after));
		EXPECT_GT(after, before);
		EXPECT_EQ(medium + 1, read_medium(s, after));
		ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 3));
		EXPECT_EQ(1, watch_changes(&s->w, &last));
		EXPECT_EQ(0, uevent_unaccounted(s->w.nl, &s->w.log, before, after));
	}
}

TEST_F(stick, medium_out_and_in_again_assigns_once_until_opened)
{
	struct stick *s = &self->s;
	__u64 before, after, now, last = 0;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
	ASSERT_EQ(0, take_out());
	ASSERT_EQ(0, wait_for_change(&s->w, &after));
	EXPECT_GT(after, before);
	ASSERT_EQ(0, insert(s->media[1]));
	ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 3));
	EXPECT_EQ(2, read_medium(s, after));
	ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 3));
	EXPECT_EQ(1, watch_changes(&s->w, &last));
	ASSERT_EQ(0, diskseq_sysfs(s->w.name, &now));
	EXPECT_EQ(after, now);
	EXPECT_EQ(0, uevent_unaccounted(s->w.nl, &s->w.log, before, after));
}

TEST_F(stick, medium_that_is_locked_in_keeps_its_number)
{
	struct stick *s = &self->s;
	__u64 before, after, last;
	int fd;

	SKIP_IF(return, self->reason);

	fd = open_disk(s->w.name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, diskseq_ioctl(fd, &before));
	EXPECT_EQ(-EBUSY, take_out());
	EXPECT_EQ(-EBUSY, insert(s->media[1]));
	ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 5));
	EXPECT_EQ(0, disk_look(s->w.name));
	EXPECT_EQ(1, read_block(fd));
	EXPECT_EQ(0, watch_changes(&s->w, &last));
	ASSERT_EQ(0, diskseq_ioctl(fd, &after));
	EXPECT_EQ(before, after);
	close(fd);
}

/* Eject by force; unlock first if the gadget does not support that. */
static int force_out(int fd)
{
	int ret = lun_set("forced_eject", "1");

	if (ret != -ENOENT)
		return ret;
	return ioctl(fd, SCSI_IOCTL_DOORUNLOCK) ? -errno : take_out();
}

TEST_F(stick, medium_forced_out_of_an_open_disk_is_not_read_any_more)
{
	struct stick *s = &self->s;
	__u64 before, after, now, last;
	int fd;

	SKIP_IF(return, self->reason);

	fd = open_disk(s->w.name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, diskseq_ioctl(fd, &before));
	EXPECT_EQ(1, read_block(fd));
	ASSERT_EQ(0, force_out(fd));
	ASSERT_EQ(0, wait_for_change(&s->w, &after));
	EXPECT_GT(after, before);
	ASSERT_EQ(0, diskseq_ioctl(fd, &now));
	EXPECT_EQ(after, now);
	EXPECT_GT(0, read_block(fd));
	EXPECT_EQ(1, watch_changes(&s->w, &last));
	EXPECT_EQ(0, uevent_unaccounted(s->w.nl, &s->w.log, before, after));
	close(fd);
}

TEST_F(stick, medium_ejected_by_the_host_gives_a_new_number)
{
	static const unsigned char eject[6] = { 0x1b, [4] = 0x02 };
	struct stick *s = &self->s;
	__u64 before, after, last;
	unsigned char key;
	char buf[128];
	int fd;

	SKIP_IF(return, self->reason);

	fd = open_disk(s->w.name, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, diskseq_ioctl(fd, &before));
	/* a request that is refused changes nothing */
	EXPECT_EQ(-EIO, disk_command(fd, eject, sizeof(eject), &key));
	ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 3));
	EXPECT_EQ(0, watch_changes(&s->w, &last));
	ASSERT_EQ(0, ioctl(fd, SCSI_IOCTL_DOORUNLOCK));
	ASSERT_EQ(0, disk_command(fd, eject, sizeof(eject), &key));
	ASSERT_EQ(0, wait_for_change(&s->w, &after));
	EXPECT_GT(after, before);
	EXPECT_EQ(1, watch_changes(&s->w, &last));
	EXPECT_EQ(0, uevent_unaccounted(s->w.nl, &s->w.log, before, after));
	/* it is out */
	ASSERT_EQ(0, read_text(LUN "/file", buf, sizeof(buf)));
	EXPECT_GE(1, strlen(buf));
	close(fd);
}

TEST_F(stick, medium_that_is_read_only_has_one_number_too)
{
	struct stick *s = &self->s;
	__u64 before, after, last;
	int fd, ro = 0;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
	ASSERT_EQ(0, take_out());
	ASSERT_EQ(0, wait_for_change(&s->w, &after));
	ASSERT_EQ(0, disk_look(s->w.name));
	ASSERT_EQ(0, lun_set("ro", "1"));
	ASSERT_EQ(0, insert(s->media[1]));
	ASSERT_EQ(0, wait_for_change(&s->w, &after));
	EXPECT_EQ(2, read_medium(s, after));
	fd = open_disk(s->w.name, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, BLKROGET, &ro));
	EXPECT_EQ(1, ro);
	EXPECT_EQ(-EROFS, open_disk(s->w.name, O_RDWR));
	close(fd);
	EXPECT_EQ(2, watch_changes(&s->w, &last));
	EXPECT_EQ(after, last);
	EXPECT_EQ(0, uevent_unaccounted(s->w.nl, &s->w.log, before, after));
}

TEST_F_TIMEOUT(stick, partitions_of_a_medium_have_its_number, 60)
{
	static const struct {
		int (*write)(int fd);
		int partitions;
	} tables[] = {
		{ table_mbr, 4 },
		{ table_bad_gpt, 0 },
		{ table_mbr, 4 },
		{ table_garbage, 0 },
		/* the medium is a smaller one from here on */
		{ table_truncated_gpt, 0 },
	};
	struct stick *s = &self->s;
	__u64 before, after;
	struct news news;
	int gone = 0;
	size_t i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
		ASSERT_EQ(0, tables[i].write(s->media[1]));
		ASSERT_EQ(0, insert(s->media[1]));
		ASSERT_EQ(0, wait_for_change(&s->w, &after));
		EXPECT_GT(after, before);
		ASSERT_EQ(0, disk_look(s->w.name));
		ASSERT_EQ(0, watch_hear(&s->w, &news));
		EXPECT_EQ(0, news.decreases);
		EXPECT_EQ(1, news.media);
		EXPECT_EQ(after, news.announced);
		check_partition_events(_metadata, &news.adds,
				       tables[i].partitions, after);
		check_partition_events(_metadata, &news.removes, gone, after);
		EXPECT_EQ(0, news.partition_changes);
		gone = tables[i].partitions;
		EXPECT_EQ(0, uevent_unaccounted(s->w.nl, &s->w.log, before, after));
	}
}

TEST_F_TIMEOUT(stick, pulled_and_plugged_in_is_a_new_disk, 60)
{
	struct stick *s = &self->s;
	__u64 before, after, last;
	struct uevent ev;
	char path[128];
	int i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
		ASSERT_EQ(0, unplug(s, &ev));
		/* a poll can have found the medium gone before the stick was */
		last = before;
		for (; s->w.mark < s->w.log.nr; s->w.mark++)
			if (uevent_is_own(&s->w.log.ev[s->w.mark], s->w.name) &&
			    s->w.log.ev[s->w.mark].media_change)
				last = s->w.log.ev[s->w.mark].diskseq;
		EXPECT_EQ(last, ev.diskseq);
		disk_path(path, s->w.name, "");
		EXPECT_NE(0, access(path, F_OK));
		ASSERT_EQ(0, plug_in(s, &ev));
		EXPECT_GT(ev.diskseq, before);
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &after));
		/* the medium that it had when it was plugged in */
		EXPECT_EQ(ev.diskseq, after);
		EXPECT_EQ(1, read_medium(s, after));
	}
}

struct reading {
	pthread_t thread;
	int fd;
	int ret;
};

/* Far apart, or the gadget has read ahead what is asked for next. */
static void *read_on(void *arg)
{
	struct reading *reading = arg;
	off_t offset = 0;

	do {
		offset = (offset + SLOW_STRIDE) % SLOW_SIZE;
		reading->ret = read_at(reading->fd, offset);
	} while (reading->ret >= 0);
	return NULL;
}

TEST_F_TIMEOUT(stick, pulled_in_the_middle_of_a_read_fails_it_and_is_gone, 60)
{
	struct reading reading = {};
	struct stick *s = &self->s;
	__u64 seq, now;
	struct uevent ev;
	char path[128];
	int slow;

	SKIP_IF(return, self->reason);
	if (!have_null_blk())
		SKIP(return, "needs null_blk and configfs");

	slow = null_blk_slow("2", READ_NSEC, false);
	ASSERT_LE(0, slow);
	ASSERT_EQ(0, insert(slow));
	close(slow);
	ASSERT_EQ(0, wait_for_change(&s->w, &seq));
	/* to open it also waits for the check that the attribute begins */
	ASSERT_EQ(0, disk_poll(s->w.name, NO_POLL));
	reading.fd = open_disk(s->w.name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, reading.fd);
	ASSERT_EQ(0, diskseq_ioctl(reading.fd, &seq));
	ASSERT_EQ(0, pthread_create(&reading.thread, NULL, read_on, &reading));
	ASSERT_EQ(0, disk_wait_for_inflight(s->w.name, NULL));
	ASSERT_EQ(0, unplug(s, &ev));
	EXPECT_EQ(seq, ev.diskseq);
	pthread_join(reading.thread, NULL);
	EXPECT_GT(0, reading.ret);
	/* an opener can still read which one it was */
	EXPECT_EQ(0, diskseq_ioctl(reading.fd, &now));
	EXPECT_EQ(seq, now);
	EXPECT_GT(0, read_block(reading.fd));
	close(reading.fd);
	disk_path(path, s->w.name, "");
	EXPECT_NE(0, access(path, F_OK));
}

/*
 * The stick reports another medium once, to whatever command comes first. The disk
 * is neither polled nor closed here, which would have the kernel look for a change
 * in its own time: so it is known which command that is.
 */
FIXTURE(attention)
{
	const char *reason;
	struct stick s;
};

FIXTURE_VARIANT(attention)
{
	int (*met_by)(struct stick *s, int fd);
	bool noted;		/* by the kernel, before that returns */
};

static int met_by_read(struct stick *s, int fd)
{
	return read_block(fd) < 0 ? 0 : -EINVAL;
}

FIXTURE_VARIANT_ADD(attention, met_by_a_read)
{
	.met_by = met_by_read,
};

static int met_by_command(struct stick *s, int fd)
{
	static const unsigned char test_unit_ready[6] = {};
	unsigned char key = 0;

	disk_command(fd, test_unit_ready, sizeof(test_unit_ready), &key);
	return key == 0x06 ? 0 : -EINVAL;
}

FIXTURE_VARIANT_ADD(attention, met_by_a_command_of_user_space)
{
	.met_by = met_by_command,
	.noted = true,
};

static int met_by_driver(struct stick *s, int fd)
{
	return disk_rescan(s->w.name);
}

FIXTURE_VARIANT_ADD(attention, met_by_the_driver_itself)
{
	.met_by = met_by_driver,
};

FIXTURE_SETUP(attention)
{
	self->reason = gadget_setup(_metadata, &self->s, NO_POLL);
}

FIXTURE_TEARDOWN(attention)
{
	gadget_teardown(_metadata, &self->s);
}

TEST_F(attention, is_a_change_whichever_command_received_it)
{
	struct stick *s = &self->s;
	int i, fd, medium, block, looks[2 * NR_CHANGES];
	__u64 before, after, now, last = 0;

	SKIP_IF(return, self->reason);

	fd = open_disk(s->w.name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, SCSI_IOCTL_DOORUNLOCK));
	for (i = 0; i < NR_CHANGES; i++) {
		medium = (i + 1) % NR_MEDIA;
		ASSERT_EQ(0, diskseq_ioctl(fd, &before));
		EXPECT_EQ(NR_MEDIA - medium, read_block(fd));
		ASSERT_EQ(0, insert(s->media[medium]));
		ASSERT_EQ(0, variant->met_by(s, fd));
		/* nothing of the new medium under the old number */
		block = read_block(fd);
		ASSERT_EQ(0, diskseq_ioctl(fd, &now));
		if (variant->noted) {
			EXPECT_EQ(medium + 1, block);
			EXPECT_LT(before, now);
		} else {
			EXPECT_GT(0, block);
			EXPECT_EQ(before, now);
		}

		looks[2 * i] = open_disk(s->w.name, O_RDONLY | O_NONBLOCK);
		ASSERT_LE(0, looks[2 * i]);
		ASSERT_EQ(0, diskseq_ioctl(fd, &after));
		EXPECT_GT(after, before);
		EXPECT_EQ(medium + 1, read_block(fd));
		looks[2 * i + 1] = open_disk(s->w.name, O_RDONLY | O_NONBLOCK);
		ASSERT_LE(0, looks[2 * i + 1]);
		EXPECT_EQ(1, watch_changes(&s->w, &last));
		EXPECT_EQ(after, last);
		EXPECT_EQ(0, uevent_unaccounted(s->w.nl, &s->w.log, before, after));
	}
	for (i = 0; i < 2 * NR_CHANGES; i++)
		close(looks[i]);
	close(fd);
}

TEST_HARNESS_MAIN
