// SPDX-License-Identifier: GPL-2.0
/*
 * A USB stick with a removable medium, made by the kernel's own mass storage
 * gadget and the dummy host controller, and found by the real drivers: each
 * medium has a number of its own, whoever it was that the stick told of it, and
 * each stick that is plugged in is a new disk.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <scsi/scsi_ioctl.h>

#include "diskseq_disk.h"
#include "diskseq_table.h"
#include "diskseq_watch.h"

#define GADGETS		"/sys/kernel/config/usb_gadget"
#define GADGET_NAME	"diskseq"
#define GADGET		GADGETS "/" GADGET_NAME
#define CONFIGURATION	GADGET "/configs/c.1"
#define FUNCTION	GADGET "/functions/mass_storage.0"
#define LUN		FUNCTION "/lun.0"
#define UDC		"dummy_udc.0"
#define DELAY_USE	"/sys/module/usb_storage/parameters/delay_use"
#define SLOW_ITEM	NULL_BLK "/diskseq_slow"

#define NR_MEDIA	2
#define NR_CHANGES	5
#define POLL_MS		"20"
#define NO_POLL		"0"
#define READ_NSEC	"300000000"	/* of the slow medium */
#define SLOW_SIZE	(2 << 20)
#define SLOW_STRIDE	(256 << 10)
#define BLOCK		4096

struct stick {
	struct watch w;
	int media[NR_MEDIA];
};

static int lun_set(const char *attr, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), LUN "/%s", attr);
	return write_text(path, value);
}

/* Also in the place of another */
static int insert(int medium)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", medium);
	return lun_set("file", path);
}

static int take_out(void)
{
	return lun_set("file", "\n");
}

/* Does the host have a device, other than the root hub? */
static bool is_plugged_in(void)
{
	char path[300], link[256];
	struct dirent *entry;
	bool found = false;
	ssize_t len;
	DIR *dir;

	dir = opendir("/sys/bus/usb/devices");
	while (dir && !found && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/sys/bus/usb/devices/%s",
			 entry->d_name);
		len = readlink(path, link, sizeof(link) - 1);
		if (len < 0 || strchr(entry->d_name, ':') ||
		    !strncmp(entry->d_name, "usb", 3))
			continue;
		link[len] = '\0';
		found = strstr(link, "/dummy_hcd");
	}
	if (dir)
		closedir(dir);
	return found;
}

/*
 * Waits until the host knows: a stick that is back before that has only been
 * reset.
 */
static void gadget_remove(const char *gadget)
{
	long long deadline = now_ms() + PATIENCE_MS;

	write_text(GADGET "/UDC", "\n");
	while (!access(GADGET, F_OK) && is_plugged_in() &&
	       now_ms() < deadline)
		nap();
	unlink(CONFIGURATION "/mass_storage.0");
	rmdir(CONFIGURATION);
	rmdir(FUNCTION);
	rmdir(GADGET);
	/* whose file may have been a disk */
	rmdir(SLOW_ITEM);
}

static int gadget_create(int medium)
{
	int ret = leftover_expect(GADGET_NAME, gadget_remove);

	if (ret)
		return ret;
	if (mkdir(GADGET, 0755) || mkdir(CONFIGURATION, 0755) ||
	    mkdir(FUNCTION, 0755) ||
	    symlink(FUNCTION, CONFIGURATION "/mass_storage.0"))
		return -errno;
	/* those of the Linux Foundation's file storage gadget */
	if (write_text(GADGET "/idVendor", "0x1d6b") ||
	    write_text(GADGET "/idProduct", "0x0104"))
		return -EIO;
	return lun_set("removable", "1") ? -EIO : insert(medium);
}

static const char *no_stick(void)
{
	static const char * const modules[] = {
		"libcomposite", "usb_f_mass_storage", "dummy_hcd",
		"usb-storage", "sd_mod",
	};
	size_t i;

	if (geteuid())
		return "needs root";
	/* it would ask the stick first, and lock the medium in */
	if (udev_is_running())
		return "needs a machine without udev";
	if (access(GADGETS, F_OK) || access("/sys/class/udc/" UDC, F_OK)) {
		/* mounts configfs */
		have_null_blk();
		for (i = 0; i < ARRAY_SIZE(modules); i++)
			load_module(modules[i], NULL);
	}
	if (access(GADGETS, F_OK))
		return "needs USB gadgets and configfs";
	if (access("/sys/class/udc/" UDC, F_OK))
		return "needs the dummy host controller";
	if (is_plugged_in() && access(GADGET, F_OK))
		return "the dummy host controller is in use";
	return access(DELAY_USE, F_OK) ? "needs usb-storage" : NULL;
}

/* 1: that event, 0: not in time */
static int wait_for(struct stick *s, bool (*is)(const struct stick *s,
						const struct uevent *ev),
		    struct uevent *ev)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	for (;;) {
		ret = uevent_read(s->w.nl, ev, deadline - now_ms());
		if (ret <= 0)
			return ret;
		ret = uevent_append(&s->w.log, ev);
		if (ret)
			return ret;
		if (!ev->partition && !ev->uuid[0] && is(s, ev))
			return 1;
	}
}

static bool is_new_stick(const struct stick *s, const struct uevent *ev)
{
	return uevent_is_add(ev) && strstr(ev->devpath, "/dummy_hcd");
}

static bool is_gone(const struct stick *s, const struct uevent *ev)
{
	return uevent_is_remove(ev) && !strcmp(ev->disk, s->w.name);
}

static bool is_change(const struct stick *s, const struct uevent *ev)
{
	return ev->media_change && !strcmp(ev->disk, s->w.name);
}

/* 1 when the kernel has told of another medium, with its number */
static int wait_for_change(struct stick *s, __u64 *seq)
{
	struct uevent ev;
	int ret = wait_for(s, is_change, &ev);

	*seq = ret == 1 ? ev.diskseq : 0;
	return ret;
}

static int unplug(struct stick *s, struct uevent *ev)
{
	int ret = write_text(GADGET "/UDC", "\n");

	return ret ? ret : wait_for(s, is_gone, ev);
}

static int plug_in(struct stick *s, struct uevent *ev)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	while (is_plugged_in() && now_ms() < deadline)
		nap();
	ret = write_text(GADGET "/UDC", UDC);
	if (ret)
		return ret;
	ret = wait_for(s, is_new_stick, ev);
	if (ret != 1)
		return ret ? ret : -ETIMEDOUT;
	snprintf(s->w.name, sizeof(s->w.name), "%s", ev->disk);
	ret = disk_rescan(s->w.name);
	return ret ? ret : disk_look(s->w.name);
}

/* The first byte tells whose data it is. */
static int read_at(int fd, off_t offset)
{
	unsigned char *buf;
	ssize_t len;
	int ret;

	if (posix_memalign((void **)&buf, BLOCK, BLOCK))
		return -ENOMEM;
	len = pread(fd, buf, BLOCK, offset);
	ret = len < 0 ? -errno : len == BLOCK ? buf[0] : -EIO;
	free(buf);
	return ret;
}

static int read_block(int fd)
{
	return read_at(fd, 2 * BLOCK);
}

static int medium_create(int nr)
{
	unsigned char mark = nr + 1;
	int fd = backing_file(TABLE_SECTORS * SECTOR, false);

	if (fd >= 0 && pwrite(fd, &mark, 1, 2 * BLOCK) != 1) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/* What is read under the number that the disk has now */
static int read_medium(struct stick *s, __u64 seq)
{
	int fd = open_disk(s->w.name, O_RDONLY | O_DIRECT), ret;
	__u64 before, after;

	if (fd < 0)
		return fd;
	ret = diskseq_ioctl(fd, &before);
	if (!ret)
		ret = read_block(fd);
	if (ret >= 0 && (diskseq_ioctl(fd, &after) || before != seq ||
			 after != seq))
		ret = -ESTALE;
	close(fd);
	return ret;
}

static const char *set_up(struct __test_metadata *_metadata,
			  struct stick *s, const char *poll)
{
	const char *reason;
	struct uevent ev;
	__u64 before, last;
	int i, fd;

	memset(s, 0, sizeof(*s));
	s->w.nl = -1;
	for (i = 0; i < NR_MEDIA; i++)
		s->media[i] = -1;
	reason = no_stick();
	if (reason)
		return reason;
	ASSERT_EQ(0, setting_change(DELAY_USE, "0"));
	s->w.nl = uevent_open();
	ASSERT_LE(0, s->w.nl);
	for (i = 0; i < NR_MEDIA; i++) {
		s->media[i] = medium_create(i);
		ASSERT_LE(0, s->media[i]);
	}
	ASSERT_EQ(0, gadget_create(s->media[0]));
	ASSERT_EQ(0, plug_in(s, &ev));
	fd = open_disk(s->w.name, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	if (!has_diskseq(s->w.name, fd))
		reason = "kernel has no disk sequence numbers";
	close(fd);
	if (reason)
		return reason;
	/*
	 * A first change, since other drivers may have drawn unannounced
	 * numbers for the device.
	 */
	ASSERT_EQ(0, disk_poll(s->w.name, POLL_MS));
	ASSERT_EQ(0, insert(s->media[0]));
	ASSERT_EQ(1, wait_for_change(s, &before));
	ASSERT_EQ(0, disk_look(s->w.name));
	ASSERT_EQ(0, disk_poll(s->w.name, poll));
	ASSERT_LE(0, watch_changes(&s->w, &last));
	return NULL;
}

static void tear_down(struct __test_metadata *_metadata, struct stick *s)
{
	int i;

	gadget_remove(GADGET_NAME);
	EXPECT_NE(0, access(GADGET, F_OK));
	leftover_gone(GADGET_NAME);
	for (i = 0; i < NR_MEDIA; i++)
		if (s->media[i] >= 0)
			close(s->media[i]);
	EXPECT_EQ(0, setting_restore(DELAY_USE));
	if (s->w.nl >= 0)
		close(s->w.nl);
	free(s->w.log.ev);
}

FIXTURE(stick)
{
	const char *reason;
	struct stick s;
};

FIXTURE_SETUP(stick)
{
	self->reason = set_up(_metadata, &self->s, POLL_MS);
}

FIXTURE_TEARDOWN(stick)
{
	tear_down(_metadata, &self->s);
}

TEST_F(stick, medium_out_and_medium_in_have_new_numbers)
{
	struct stick *s = &self->s;
	__u64 before, out, in, now, last = 0;
	int i, medium;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		medium = (i + 1) % NR_MEDIA;
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
		ASSERT_EQ(0, take_out());
		ASSERT_EQ(1, wait_for_change(s, &out));
		EXPECT_GT(out, before);
		ASSERT_EQ(0, disk_look(s->w.name));
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &now));
		EXPECT_EQ(out, now);
		EXPECT_EQ(-ENOMEDIUM, open_disk(s->w.name, O_RDONLY));
		/* an empty drive says that it is empty each time */
		ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 3));
		EXPECT_EQ(1, watch_changes(&s->w, &last));

		ASSERT_EQ(0, insert(s->media[medium]));
		ASSERT_EQ(1, wait_for_change(s, &in));
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		medium = (i + 1) % NR_MEDIA;
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
		ASSERT_EQ(0, insert(s->media[medium]));
		ASSERT_EQ(1, wait_for_change(s, &after));
		EXPECT_GT(after, before);
		EXPECT_EQ(medium + 1, read_medium(s, after));
		ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 3));
		EXPECT_EQ(1, watch_changes(&s->w, &last));
		EXPECT_EQ(0, uevent_unaccounted(s->w.nl, &s->w.log, before, after));
	}
}

TEST_F(stick, medium_out_and_in_again_draws_once_until_opened)
{
	struct stick *s = &self->s;
	__u64 before, after, now, last = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
	ASSERT_EQ(0, take_out());
	ASSERT_EQ(1, wait_for_change(s, &after));
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

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

/* Out with it, locked or not; where the gadget cannot do that, unlock it. */
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

	fd = open_disk(s->w.name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, diskseq_ioctl(fd, &before));
	EXPECT_EQ(1, read_block(fd));
	ASSERT_EQ(0, force_out(fd));
	ASSERT_EQ(1, wait_for_change(s, &after));
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

	fd = open_disk(s->w.name, O_RDONLY | O_NONBLOCK);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, diskseq_ioctl(fd, &before));
	/* a request that is refused changes nothing */
	EXPECT_EQ(-EIO, disk_command(fd, eject, sizeof(eject), &key));
	ASSERT_EQ(0, disk_wait_for_polls(s->w.name, 3));
	EXPECT_EQ(0, watch_changes(&s->w, &last));
	ASSERT_EQ(0, ioctl(fd, SCSI_IOCTL_DOORUNLOCK));
	ASSERT_EQ(0, disk_command(fd, eject, sizeof(eject), &key));
	ASSERT_EQ(1, wait_for_change(s, &after));
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
	ASSERT_EQ(0, take_out());
	ASSERT_EQ(1, wait_for_change(s, &after));
	ASSERT_EQ(0, disk_look(s->w.name));
	ASSERT_EQ(0, lun_set("ro", "1"));
	ASSERT_EQ(0, insert(s->media[1]));
	ASSERT_EQ(1, wait_for_change(s, &after));
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

/* Of the partitions, under the number that the disk has since */
static int count_partition_events(struct stick *s, size_t from, __u64 seq,
				  bool adds)
{
	int nr = 0;
	size_t i;

	for (i = from; i < s->w.log.nr; i++) {
		const struct uevent *ev = &s->w.log.ev[i];

		if (!uevent_is_own(ev, s->w.name) || !ev->partition)
			continue;
		if (ev->diskseq != seq)
			return -EINVAL;
		if (adds ? uevent_is_add(ev) : uevent_is_remove(ev))
			nr++;
	}
	return nr;
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
	__u64 before, after, last;
	int gone = 0;
	size_t i;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		size_t from;

		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
		ASSERT_EQ(0, tables[i].write(s->media[1]));
		from = s->w.log.nr;
		ASSERT_EQ(0, insert(s->media[1]));
		ASSERT_EQ(1, wait_for_change(s, &after));
		EXPECT_GT(after, before);
		ASSERT_EQ(0, disk_look(s->w.name));
		EXPECT_EQ(1, watch_changes(&s->w, &last));
		EXPECT_EQ(after, last);
		EXPECT_EQ(tables[i].partitions,
			  count_partition_events(s, from, after, true));
		EXPECT_EQ(gone, count_partition_events(s, from, after, false));
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, diskseq_sysfs(s->w.name, &before));
		ASSERT_EQ(1, unplug(s, &ev));
		/* a poll can have found the medium gone before the stick was */
		last = before;
		for (; s->w.mark < s->w.log.nr; s->w.mark++)
			if (is_change(s, &s->w.log.ev[s->w.mark]))
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

static int slow_medium(void)
{
	char name[64] = "diskseq_slow", path[128], buf[32];

	if (mkdir(SLOW_ITEM, 0755))
		return -errno;
	if (write_text(SLOW_ITEM "/size", "2") ||
	    write_text(SLOW_ITEM "/irqmode", "2") ||
	    write_text(SLOW_ITEM "/completion_nsec", READ_NSEC) ||
	    write_text(SLOW_ITEM "/power", "1"))
		return -EIO;
	disk_path(path, name, "");
	if (access(path, F_OK)) {
		if (read_text(SLOW_ITEM "/index", buf, sizeof(buf)))
			return -EIO;
		snprintf(name, sizeof(name), "nullb%d", atoi(buf));
	}
	return open_disk(name, O_RDWR);
}

TEST_F_TIMEOUT(stick, pulled_in_the_middle_of_a_read_fails_it_and_is_gone, 60)
{
	struct reading reading = {};
	struct stick *s = &self->s;
	__u64 seq, now;
	struct uevent ev;
	char path[128];
	int slow;

	if (self->reason)
		SKIP(return, "%s", self->reason);
	if (!have_null_blk())
		SKIP(return, "needs null_blk and configfs");

	slow = slow_medium();
	ASSERT_LE(0, slow);
	ASSERT_EQ(0, insert(slow));
	close(slow);
	ASSERT_EQ(1, wait_for_change(s, &seq));
	/* to open it also waits for the check that the attribute begins */
	ASSERT_EQ(0, disk_poll(s->w.name, NO_POLL));
	reading.fd = open_disk(s->w.name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, reading.fd);
	ASSERT_EQ(0, diskseq_ioctl(reading.fd, &seq));
	ASSERT_EQ(0, pthread_create(&reading.thread, NULL, read_on, &reading));
	ASSERT_EQ(0, disk_wait_for_inflight(s->w.name));
	ASSERT_EQ(1, unplug(s, &ev));
	EXPECT_EQ(seq, ev.diskseq);
	pthread_join(reading.thread, NULL);
	EXPECT_GT(0, reading.ret);
	/* who has it open still learns which one it was */
	EXPECT_EQ(0, diskseq_ioctl(reading.fd, &now));
	EXPECT_EQ(seq, now);
	EXPECT_GT(0, read_block(reading.fd));
	close(reading.fd);
	disk_path(path, s->w.name, "");
	EXPECT_NE(0, access(path, F_OK));
}

/*
 * The stick says once that there is another medium, to whatever command comes
 * first. Nobody polls or closes the disk here, which would have the kernel look
 * for a change in its own time: so it is known which command that is.
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
	self->reason = set_up(_metadata, &self->s, NO_POLL);
}

FIXTURE_TEARDOWN(attention)
{
	tear_down(_metadata, &self->s);
}

TEST_F(attention, is_a_change_whoever_it_was_told)
{
	struct stick *s = &self->s;
	int i, fd, medium, block, looks[2 * NR_CHANGES];
	__u64 before, after, now, last = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
