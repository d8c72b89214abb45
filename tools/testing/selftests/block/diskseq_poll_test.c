// SPDX-License-Identifier: GPL-2.0
/*
 * Changes that are found by polling: scsi_debug's disk reports by a unit attention
 * that its content may be another, as a drive does that was given another medium,
 * and is without medium while it is offline. An ioctl that has a change reported
 * waits for no other opener.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq.h"
#include "diskseq_scsi.h"
#include "diskseq_scsi_debug.h"
#include "diskseq_watch.h"

#define POLL_MS		"10"
#define NR_CHANGES	10
#define NR_LOOKERS	4
#define TIMEOUT_S	"5"	/* of a read that is not answered */

struct drive {
	struct watch w;
	int fd;
};

FIXTURE(removable)
{
	const char *reason;
	struct drive d;
};

/* WRITE BUFFER with new microcode: the next command gets a unit attention */
static int trigger_attention(int fd)
{
	static const unsigned char cdb[10] = { 0x3b, 0x05 };

	return disk_command(fd, cdb, sizeof(cdb), NULL);
}

static int start_stop(int fd, bool start)
{
	/* at once: the command is over before the motor runs */
	unsigned char cdb[6] = { 0x1b, 0x01, [4] = start };

	return disk_command(fd, cdb, sizeof(cdb), NULL);
}

/* What becomes of every @nth command */
static int inject(const char *nth, const char *opts)
{
	int ret = setting_change(SCSI_DEBUG "every_nth", nth);

	return ret ? ret : setting_change(SCSI_DEBUG "opts", opts);
}

static int inject_nothing(void)
{
	int ret = setting_restore(SCSI_DEBUG "opts");

	return setting_restore(SCSI_DEBUG "every_nth") ?: ret;
}

/* Every second command ends with an aborted transport, even if it is a poll. */
static int fail_commands(void)
{
	return inject("2", "0x10");
}

/* No read is answered, unless by a unit attention. */
static int ignore_reads(void)
{
	return inject("1", "0x80");
}

/*
 * The drive reports it to the command that comes first, and that may ask for
 * something else, such as its capacity: then the kernel has not noticed.
 */
static int wait_for_attention(struct drive *d)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct uevent ev;
	int ret;

	while ((ret = watch_wait(&d->w, uevent_is_media_change, PATIENCE_MS / 4,
				 &ev)) == -ETIMEDOUT && now_ms() < deadline) {
		ret = trigger_attention(d->fd);
		if (ret)
			break;
	}
	return ret;
}

static int create_removable(struct drive *d)
{
	int ret;

	ret = setting_change(SCSI_DEBUG "removable", "1");
	if (!ret)
		ret = scsi_debug_add(d->w.nl, &d->w.log, d->w.name);
	setting_restore(SCSI_DEBUG "removable");
	if (ret)
		return ret;
	/* the event comes before the driver is through: this waits for it */
	ret = disk_rescan(d->w.name);
	if (!ret)
		ret = disk_poll(d->w.name, POLL_MS);
	if (ret)
		return ret;
	d->fd = open_disk(d->w.name, O_RDONLY | O_NONBLOCK);
	if (d->fd < 0)
		return d->fd;
	flock(d->fd, LOCK_EX | LOCK_NB);
	return 0;
}

FIXTURE_SETUP(removable)
{
	struct drive *d = &self->d;
	long long deadline = now_ms() + PATIENCE_MS;
	__u64 before, after = 0;

	d->w.nl = -1;
	d->fd = -1;
	if (geteuid()) {
		self->reason = "needs root";
		return;
	}
	/* it would ask the drive first, and look at each new medium */
	if (udev_is_running()) {
		self->reason = "needs a machine without udev";
		return;
	}
	if (!have_scsi_debug()) {
		self->reason = "needs scsi_debug";
		return;
	}
	ASSERT_EQ(0, watch_open(&d->w, NULL));
	ASSERT_EQ(0, create_removable(d));
	if (!has_diskseq(d->w.name, d->fd)) {
		self->reason = "kernel has no disk sequence numbers";
		return;
	}

	/* a new drive reports changes of its own */
	do {
		ASSERT_EQ(0, disk_look(d->w.name));
		before = after;
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 3));
		ASSERT_EQ(0, diskseq_sysfs(d->w.name, &after));
		ASSERT_LT(now_ms(), deadline);
	} while (before != after);
	/*
	 * A first change, since numbers may have been assigned for the device
	 * that no event announces: the driver of SCSI generic devices allocates
	 * a disk that is never added.
	 */
	ASSERT_EQ(0, trigger_attention(d->fd));
	ASSERT_EQ(0, wait_for_attention(d));
	ASSERT_EQ(0, disk_look(d->w.name));
	ASSERT_LE(0, watch_changes(&d->w, &before));
}

FIXTURE_TEARDOWN(removable)
{
	struct drive *d = &self->d;

	if (d->fd >= 0)
		close(d->fd);
	if (d->w.name[0]) {
		EXPECT_EQ(0, inject_nothing());
		EXPECT_EQ(0, scsi_debug_remove());
	}
	watch_close(&d->w);
}

TEST_F(removable, polls_without_change_assign_nothing)
{
	struct drive *d = &self->d;
	__u64 before, after, last = 0;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 10));
	/* nor is a stopped motor another medium, "not ready" as that is */
	ASSERT_EQ(0, start_stop(d->fd, false));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 5));
	EXPECT_EQ(0, disk_look(d->w.name));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 5));
	ASSERT_EQ(0, start_stop(d->fd, true));
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 5));
	EXPECT_EQ(0, disk_look(d->w.name));
	/* nor a drive that fails now and then */
	ASSERT_EQ(0, fail_commands());
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 10));
	ASSERT_EQ(0, inject_nothing());
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 5));
	EXPECT_EQ(0, disk_look(d->w.name));
	EXPECT_EQ(0, watch_changes(&d->w, &last));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &after));
	EXPECT_EQ(before, after);
}

TEST_F(removable, polled_change_assigns_once_and_announces_it)
{
	struct drive *d = &self->d;
	__u64 before, by_ioctl, by_sysfs, last = 0;
	int i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
		ASSERT_EQ(0, trigger_attention(d->fd));
		ASSERT_EQ(0, wait_for_attention(d)) {
			TH_LOG("change %d not announced", i);
		}
		ASSERT_EQ(0, diskseq_ioctl(d->fd, &by_ioctl));
		EXPECT_GT(by_ioctl, before);
		/* the same change, found again by an opener */
		ASSERT_EQ(0, disk_look(d->w.name));
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
		EXPECT_EQ(1, watch_changes(&d->w, &last));
		EXPECT_EQ(by_ioctl, last);
		EXPECT_EQ(0, uevent_unaccounted(d->w.nl, &d->w.log, before, by_ioctl));
		ASSERT_EQ(0, diskseq_sysfs(d->w.name, &by_sysfs));
		EXPECT_EQ(by_ioctl, by_sysfs);
	}
}

TEST_F(removable, medium_gone_and_back_has_a_new_number)
{
	struct drive *d = &self->d;
	__u64 before, by_ioctl, by_sysfs, last = 0;
	char path[128];
	int i;

	SKIP_IF(return, self->reason);

	disk_path(path, d->w.name, "device/state");
	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
		ASSERT_EQ(0, write_text(path, "offline\n"));
		ASSERT_EQ(0, wait_for_change(&d->w, &last)) {
			TH_LOG("removal %d not announced", i);
		}
		ASSERT_EQ(0, write_text(path, "running\n"));
		ASSERT_EQ(0, disk_look(d->w.name));
		ASSERT_EQ(0, diskseq_ioctl(d->fd, &by_ioctl));
		EXPECT_GT(by_ioctl, before);
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
		EXPECT_LE(1, watch_changes(&d->w, &last));
		ASSERT_EQ(0, diskseq_sysfs(d->w.name, &by_sysfs));
		EXPECT_EQ(by_sysfs, last);
		EXPECT_EQ(0, uevent_unaccounted(d->w.nl, &d->w.log, before, by_sysfs));
	}
}

/*
 * A drive that flaps: its medium appears and disappears repeatedly, and the
 * disk has not been opened since the first change.
 */
TEST_F(removable, medium_that_comes_and_goes_assigns_once_until_opened)
{
	struct drive *d = &self->d;
	__u64 before, after, last = 0;
	struct uevent ev;
	char path[128];
	int i;

	SKIP_IF(return, self->reason);

	disk_path(path, d->w.name, "device/state");
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
	for (i = 0; i < NR_CHANGES; i++) {
		ASSERT_EQ(0, write_text(path, "offline\n"));
		/* no event comes later, so give it the time of some polls */
		ASSERT_EQ(i ? -ETIMEDOUT : 0,
			  watch_wait(&d->w, uevent_is_media_change,
				     i ? 3 * atoi(POLL_MS) : PATIENCE_MS, &ev));
		ASSERT_EQ(0, write_text(path, "running\n"));
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
		ASSERT_EQ(0, trigger_attention(d->fd));
		ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
	}
	EXPECT_EQ(1, watch_changes(&d->w, &last));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &after));
	EXPECT_EQ(last, after);
	EXPECT_EQ(0, uevent_unaccounted(d->w.nl, &d->w.log, before, after));

	/* the next one, after a look, is news again */
	ASSERT_EQ(0, disk_look(d->w.name));
	ASSERT_LE(0, watch_changes(&d->w, &last));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &before));
	ASSERT_EQ(0, trigger_attention(d->fd));
	ASSERT_EQ(0, wait_for_attention(d));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &after));
	EXPECT_GT(after, before);
}

/* An open looks for a new medium, as the poll does. */
struct looker {
	struct drive *drive;
	pthread_rwlock_t *pause;
	pthread_t thread;
	bool *stop;
	__u64 last;
	unsigned int opens;
	unsigned int decreases;
	unsigned int zeroes;
	int error;
};

static void *open_and_read(void *arg)
{
	struct looker *looker = arg;

	while (!looker->error && !flag_is_set(looker->stop)) {
		__u64 seq;
		int fd;

		pthread_rwlock_rdlock(looker->pause);
		fd = open_disk(looker->drive->w.name, O_RDONLY | O_NONBLOCK);
		if (fd < 0) {
			looker->error = fd;
		} else {
			looker->error = diskseq_ioctl(fd, &seq);
			close(fd);
			if (!seq)
				looker->zeroes++;
			if (seq < looker->last)
				looker->decreases++;
			looker->last = seq;
			looker->opens++;
		}
		pthread_rwlock_unlock(looker->pause);
	}
	return NULL;
}

TEST_F(removable, change_found_by_poll_or_open_assigns_once)
{
	struct drive *d = &self->d;
	struct looker lookers[NR_LOOKERS] = {};
	__u64 first, now, before, last = 0;
	pthread_rwlockattr_t attr;
	pthread_rwlock_t pause;
	bool stop = false;
	int i, nr, ret = 0;

	SKIP_IF(return, self->reason);

	/* the lookers never rest of their own will */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr,
				      PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&pause, &attr);

	ASSERT_EQ(0, diskseq_ioctl(d->fd, &first));
	for (i = 0; i < NR_LOOKERS; i++) {
		lookers[i].drive = d;
		lookers[i].pause = &pause;
		lookers[i].stop = &stop;
		ASSERT_EQ(0, pthread_create(&lookers[i].thread, NULL,
					    open_and_read, &lookers[i]));
	}
	for (nr = 0; nr < NR_CHANGES; nr++) {
		/*
		 * While they have finished with the last change: a look at the
		 * new medium can swallow the drive's next attention.
		 */
		pthread_rwlock_wrlock(&pause);
		ret = disk_look(d->w.name);
		if (!ret)
			ret = diskseq_ioctl(d->fd, &before);
		if (!ret)
			ret = trigger_attention(d->fd);
		pthread_rwlock_unlock(&pause);
		if (ret)
			break;
		ret = wait_for_attention(d);
		if (ret)
			break;
		ret = diskseq_ioctl(d->fd, &now);
		if (ret)
			break;
		EXPECT_GT(now, before);
	}
	flag_set(&stop);
	for (i = 0; i < NR_LOOKERS; i++) {
		pthread_join(lookers[i].thread, NULL);
		EXPECT_EQ(0, lookers[i].error);
		EXPECT_LT(0, lookers[i].opens);
		EXPECT_EQ(0, lookers[i].zeroes);
		EXPECT_EQ(0, lookers[i].decreases);
	}
	ASSERT_EQ(0, ret) {
		TH_LOG("change %d: %s", nr, strerror(-ret));
	}
	ASSERT_EQ(0, disk_wait_for_polls(d->w.name, 2));
	EXPECT_EQ(NR_CHANGES, watch_changes(&d->w, &last));
	ASSERT_EQ(0, diskseq_ioctl(d->fd, &now));
	EXPECT_EQ(last, now);
	EXPECT_EQ(0, uevent_unaccounted(d->w.nl, &d->w.log, first, now));
}

struct scan {
	pthread_t thread;
	pid_t tid;
	int fd;
	bool started;
	bool done;
};

static void *scan_again(void *arg)
{
	struct scan *scan = arg;

	scan->tid = syscall(__NR_gettid);
	flag_set(&scan->started);
	/* it succeeds where the change has been reported */
	ioctl(scan->fd, BLKRRPART);
	flag_set(&scan->done);
	return NULL;
}

static int read_once(int fd)
{
	void *buf;
	int ret;

	if (posix_memalign(&buf, PAGE, PAGE))
		return -ENOMEM;
	ret = pread(fd, buf, PAGE, 0) < 0 ? -errno : 0;
	free(buf);
	return ret;
}

/* The drive reports it to a read, and the kernel hears of it at the next check. */
static int ioctl_after_attention(int fd)
{
	int ret, version;

	ret = trigger_attention(fd);
	if (ret)
		return ret;
	if (read_once(fd) != -EIO)
		return -EINVAL;
	/* an ignored read is repeated, and then answered */
	ret = inject_nothing();
	if (ret)
		return ret;
	/* any that the driver passes on */
	return ioctl(fd, SG_GET_VERSION_NUM, &version) ? -errno : 0;
}

/* If the kernel has an ioctl report the change, it does so during a scan, too. */
TEST_F_TIMEOUT(removable, ioctl_reports_a_change_while_another_scans, 60)
{
	struct drive *d = &self->d;
	struct scan scan = { .fd = d->fd };
	__u64 before, now = 0;
	char path[128];
	bool reported;
	int fd;

	SKIP_IF(return, self->reason);

	/* an open waits for the check that the attribute begins */
	ASSERT_EQ(0, disk_poll(d->w.name, "0"));
	fd = open_disk(d->w.name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, diskseq_ioctl(fd, &before));
	ASSERT_EQ(0, ioctl_after_attention(fd));
	ASSERT_EQ(0, diskseq_ioctl(fd, &now));
	reported = now > before;
	ASSERT_EQ(0, disk_look(d->w.name));
	ASSERT_EQ(0, diskseq_ioctl(fd, &before));

	disk_path(path, d->w.name, "device/timeout");
	ASSERT_EQ(0, write_text(path, TIMEOUT_S));
	ASSERT_EQ(0, ignore_reads());
	ASSERT_EQ(0, pthread_create(&scan.thread, NULL, scan_again, &scan));
	while (!flag_is_set(&scan.started))
		nap();
	EXPECT_TRUE(wait_until_it_waits(scan.tid, &scan.done));
	EXPECT_EQ(0, ioctl_after_attention(fd));
	/* the read of the scan is still not answered */
	EXPECT_EQ(0, disk_wait_for_inflight(d->w.name, &scan.done)) {
		TH_LOG("the ioctl waits for the scan");
	}
	EXPECT_EQ(0, diskseq_ioctl(fd, &now));
	EXPECT_EQ(reported, now > before);
	pthread_join(scan.thread, NULL);
	close(fd);
}

TEST_HARNESS_MAIN
