/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A USB stick with a removable medium: the kernel's own mass storage gadget on the
 * dummy host controller.
 */
#ifndef __DISKSEQ_GADGET_H
#define __DISKSEQ_GADGET_H

#include <dirent.h>
#include <scsi/scsi_ioctl.h>

#include "diskseq_cleanup.h"
#include "diskseq_loop.h"
#include "diskseq_null_blk.h"
#include "diskseq_scsi.h"
#include "diskseq_watch.h"

#define GADGETS		"/sys/kernel/config/usb_gadget"
#define GADGET_NAME	"diskseq"
#define GADGET		GADGETS "/" GADGET_NAME
#define CONFIGURATION	GADGET "/configs/c.1"
#define FUNCTION	GADGET "/functions/mass_storage.0"
#define LUN		FUNCTION "/lun.0"
#define UDC		"dummy_udc.0"
#define DELAY_USE	"/sys/module/usb_storage/parameters/delay_use"

#define NR_MEDIA	2
#define POLL_MS		"5"
#define NO_POLL		"0"
#define BLOCK		4096

struct stick {
	struct watch w;
	int media[NR_MEDIA];
};

static inline int lun_set(const char *attr, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), LUN "/%s", attr);
	return write_text(path, value);
}

/* Also in the place of another */
static inline int insert(int medium)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", medium);
	return lun_set("file", path);
}

static inline int take_out(void)
{
	return lun_set("file", "\n");
}

/* Does the host have a device, other than the root hub? */
static inline bool is_plugged_in(void)
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
static inline void gadget_remove(const char *gadget)
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
	rmdir(NULL_BLK_SLOW);
}

static inline int gadget_create(int medium)
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

static inline const char *no_stick(void)
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

static inline int unplug(struct stick *s, struct uevent *ev)
{
	int ret = write_text(GADGET "/UDC", "\n");

	if (ret)
		return ret;
	return watch_wait(&s->w, uevent_is_remove, PATIENCE_MS, ev);
}

static inline int plug_in(struct stick *s, struct uevent *ev)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	while (is_plugged_in() && now_ms() < deadline)
		nap();
	ret = write_text(GADGET "/UDC", UDC);
	if (ret)
		return ret;
	ret = uevent_wait_for_disk(s->w.nl, &s->w.log, uevent_is_add,
				   "/dummy_hcd", ev);
	if (ret)
		return ret;
	snprintf(s->w.name, sizeof(s->w.name), "%s", ev->disk);
	ret = disk_rescan(s->w.name);
	return ret ? ret : disk_look(s->w.name);
}

/* The first byte of a block is the number of its medium. */
static inline int read_at(int fd, off_t offset)
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

static inline int read_block(int fd)
{
	return read_at(fd, 2 * BLOCK);
}

static inline int medium_create(int nr)
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
static inline int read_medium(struct stick *s, __u64 seq)
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

static inline const char *gadget_setup(struct __test_metadata *_metadata,
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
	ASSERT_EQ(0, watch_open(&s->w, NULL));
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
	 * A first change, since numbers may have been assigned for the device
	 * that no event announces.
	 */
	ASSERT_EQ(0, disk_poll(s->w.name, POLL_MS));
	ASSERT_EQ(0, insert(s->media[0]));
	ASSERT_EQ(0, wait_for_change(&s->w, &before));
	ASSERT_EQ(0, disk_look(s->w.name));
	ASSERT_EQ(0, disk_poll(s->w.name, poll));
	ASSERT_LE(0, watch_changes(&s->w, &last));
	return NULL;
}

static inline void gadget_teardown(struct __test_metadata *_metadata,
				   struct stick *s)
{
	int i;

	gadget_remove(GADGET_NAME);
	EXPECT_NE(0, access(GADGET, F_OK));
	leftover_gone(GADGET_NAME);
	for (i = 0; i < NR_MEDIA; i++)
		if (s->media[i] >= 0)
			close(s->media[i]);
	EXPECT_EQ(0, setting_restore(DELAY_USE));
	watch_close(&s->w);
}

#endif /* __DISKSEQ_GADGET_H */
