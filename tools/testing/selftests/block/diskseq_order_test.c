// SPDX-License-Identifier: GPL-2.0
/*
 * In which order a loop device becomes another medium: a program that reads the
 * number, then the size, data, the read-only attribute or the partitions, and then
 * the same number again, has read what belongs to the medium that the number
 * stands for, or got an error.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdalign.h>
#include <linux/blkpg.h>

#include "diskseq_watch.h"
#include "diskseq_table.h"

#define IMAGE_SIZE	0x100000
#define HALF		(IMAGE_SIZE / 2)
#define PAGE		4096
#define PROBED_AT	HALF	/* where the data is looked at */
#define NR_CYCLES	40
#define NR_RO_CYCLES	60
#define NR_GROWS	40
#define OLD_END		4608	/* a page and a sector */
#define NEW_END		8192

/* A file in memory, of one label but for the tables that it may get. */
static int labelled_file(off_t size, unsigned char label)
{
	char page[PAGE];
	off_t at;
	int fd;

	fd = backing_file(size, false);
	if (fd < 0)
		return fd;
	memset(page, label, sizeof(page));
	for (at = 0; at < size; at += PAGE) {
		size_t n = size - at < PAGE ? size - at : PAGE;

		if (pwrite(fd, page, n, at) != n) {
			close(fd);
			return -EIO;
		}
	}
	return fd;
}

/* The partition's start in sectors; -ENOENT if there is no such partition. */
static long partition_start(const char *disk, int partno)
{
	char path[128], buf[32];
	int ret;

	snprintf(path, sizeof(path), "/sys/block/%s/%sp%d/start", disk, disk,
		 partno);
	ret = read_text(path, buf, sizeof(buf));
	return ret ? ret : atol(buf);
}

static int open_partition(const char *disk, int partno, int flags)
{
	char dev[160];

	snprintf(dev, sizeof(dev), "%s/%sp%d", disk, disk, partno);
	return open_disk(dev, flags);
}

/* A mapped page that can't be read gives SIGBUS: that is an answer, too. */
static __thread sigjmp_buf sigbus_jump;

static void sigbus(int sig)
{
	siglongjmp(sigbus_jump, 1);
}

static int peek(const unsigned char *mem)
{
	if (sigsetjmp(sigbus_jump, 1))
		return -EIO;
	return __atomic_load_n(mem, __ATOMIC_RELAXED);
}

FIXTURE(order)
{
	const char *reason;
	struct watch t;
	struct loop lo;
	int a;
	int b;
};

FIXTURE_SETUP(order)
{
	struct sigaction sa = { .sa_handler = sigbus };

	memset(self, 0, sizeof(*self));
	self->lo.nr = -1;
	self->lo.fd = -1;
	self->a = -1;
	self->b = -1;
	self->t.nl = -1;
	self->reason = loop_unusable();
	if (self->reason)
		return;
	ASSERT_EQ(0, sigaction(SIGBUS, &sa, NULL));
	self->t.nl = uevent_open();
	ASSERT_LE(0, self->t.nl);
	self->a = labelled_file(IMAGE_SIZE, 'a');
	ASSERT_LE(0, self->a);
	self->b = labelled_file(IMAGE_SIZE, 'b');
	ASSERT_LE(0, self->b);
	ASSERT_EQ(0, loop_create(&self->lo));
	strcpy(self->t.name, self->lo.name);
	ASSERT_EQ(0, watch_settle(&self->t));
}

FIXTURE_TEARDOWN(order)
{
	if (self->lo.nr >= 0)
		EXPECT_EQ(0, loop_destroy(&self->lo));
	if (self->b >= 0)
		close(self->b);
	if (self->a >= 0)
		close(self->a);
	if (self->t.nl >= 0)
		close(self->t.nl);
	free(self->t.log.ev);
}

/*
 * A thread reads through the descriptor that attaches and detaches: the number,
 * then the size or data, then the number.
 */
enum way { BUFFERED, DIRECT, BY_SYSFS };

/* What was seen between two readings of one number */
struct seen {
	__u64 seq;
	unsigned int sizes[2];	/* 0, that of the file */
	unsigned int strange;	/* another size */
	unsigned int data;	/* of the file */
	unsigned int ends;	/* at once, or early */
	unsigned int errors;
	unsigned int wrong;	/* other data */
};

struct sharer {
	pthread_t thread;
	const char *disk;
	int fd;
	enum way way;
	bool stop;
	struct seen seen[4 * NR_CYCLES];
	size_t nr;
};

static struct seen *seen_under(struct sharer *s, __u64 seq)
{
	if (s->nr && s->seen[s->nr - 1].seq == seq)
		return &s->seen[s->nr - 1];
	if (s->nr == ARRAY_SIZE(s->seen))
		return NULL;
	s->seen[s->nr].seq = seq;
	return &s->seen[s->nr++];
}

static bool sharer_number(struct sharer *s, __u64 *seq)
{
	return !(s->way == BY_SYSFS ? diskseq_sysfs(s->disk, seq) :
		 diskseq_ioctl(s->fd, seq));
}

static bool sharer_size(struct sharer *s, __u64 *size)
{
	char path[128], buf[32];

	if (s->way != BY_SYSFS)
		return !ioctl(s->fd, BLKGETSIZE64, size);
	snprintf(path, sizeof(path), "/sys/block/%s/size", s->disk);
	if (read_text(path, buf, sizeof(buf)))
		return false;
	*size = strtoull(buf, NULL, 10) * SECTOR;
	return true;
}

static void *share(void *arg)
{
	static __thread alignas(PAGE) char page[PAGE];
	struct sharer *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		__u64 seq, again, size;
		struct seen *seen;
		ssize_t len;

		if (!sharer_number(s, &seq) || !sharer_size(s, &size) ||
		    !sharer_number(s, &again))
			continue;
		seen = seq == again ? seen_under(s, seq) : NULL;
		if (seen) {
			if (size && size != IMAGE_SIZE)
				seen->strange++;
			else
				seen->sizes[!!size]++;
		}
		if (s->way == BY_SYSFS)
			continue;

		page[0] = 0;
		page[PAGE - 1] = 0;
		if (!sharer_number(s, &seq))
			continue;
		len = pread(s->fd, page, PAGE, PROBED_AT);
		if (!sharer_number(s, &again) || seq != again)
			continue;
		seen = seen_under(s, seq);
		if (!seen)
			continue;
		if (len < 0)
			seen->errors++;
		else if (len < PAGE)
			seen->ends++;
		else if (page[0] == 'a' && page[PAGE - 1] == 'a')
			seen->data++;
		else
			seen->wrong++;
	}
	return NULL;
}

FIXTURE(shared_descriptor)
{
	const char *reason;
	struct loop lo;
	struct sharer sharer;
	int a;
};

FIXTURE_VARIANT(shared_descriptor)
{
	enum way way;
};

FIXTURE_VARIANT_ADD(shared_descriptor, buffered)
{
	.way = BUFFERED,
};

FIXTURE_VARIANT_ADD(shared_descriptor, direct)
{
	.way = DIRECT,
};

FIXTURE_VARIANT_ADD(shared_descriptor, sysfs)
{
	.way = BY_SYSFS,
};

FIXTURE_SETUP(shared_descriptor)
{
	memset(self, 0, sizeof(*self));
	self->lo.nr = -1;
	self->lo.fd = -1;
	self->a = -1;
	self->reason = loop_unusable();
	if (self->reason)
		return;
	self->a = labelled_file(IMAGE_SIZE, 'a');
	ASSERT_LE(0, self->a);
	ASSERT_EQ(0, loop_create(&self->lo));
}

FIXTURE_TEARDOWN(shared_descriptor)
{
	if (self->lo.nr >= 0)
		EXPECT_EQ(0, loop_destroy(&self->lo));
	if (self->a >= 0)
		close(self->a);
}

TEST_F_TIMEOUT(shared_descriptor, shows_size_and_data_of_the_medium_with_that_number,
	       120)
{
	__u64 attached[NR_CYCLES] = {}, detached[NR_CYCLES + 1] = {};
	struct sharer *s = &self->sharer;
	unsigned int short_reads = 0, zero_sizes = 0, early_sizes = 0;
	unsigned int late_data = 0, strange = 0, judged = 0;
	int i, ret = 0, fd = self->lo.fd;
	size_t n;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	s->disk = self->lo.name;
	s->fd = fd;
	s->way = variant->way;
	if (s->way == DIRECT)
		ASSERT_EQ(0, fcntl(fd, F_SETFL, O_DIRECT));
	ASSERT_EQ(0, diskseq_ioctl(fd, &detached[0]));
	ASSERT_EQ(0, pthread_create(&s->thread, NULL, share, s));
	for (i = 0; !ret && i < NR_CYCLES; i++) {
		ret = loop_configure(fd, self->a, 0);
		if (!ret)
			ret = diskseq_ioctl(fd, &attached[i]);
		nap();
		/* the thread has no descriptor of its own: this detaches */
		if (!ret && ioctl(fd, LOOP_CLR_FD, 0))
			ret = -errno;
		if (!ret)
			ret = diskseq_ioctl(fd, &detached[i + 1]);
		nap();
	}
	__atomic_store_n(&s->stop, true, __ATOMIC_RELAXED);
	pthread_join(s->thread, NULL);
	ASSERT_EQ(0, ret);

	for (n = 0; n < s->nr; n++) {
		const struct seen *seen = &s->seen[n];
		bool with = false, without = false;

		for (i = 0; i < NR_CYCLES; i++)
			with |= seen->seq == attached[i];
		for (i = 0; i <= NR_CYCLES; i++)
			without |= seen->seq == detached[i];
		/*
		 * A page that a read has brought in meanwhile is dropped under
		 * a number between, which stands for neither.
		 */
		if (!with && !without)
			continue;
		judged += with;
		strange += seen->strange + seen->wrong;
		if (with) {
			zero_sizes += seen->sizes[0];
			short_reads += seen->ends;
		} else {
			early_sizes += seen->sizes[1];
			late_data += seen->data;
		}
	}
	EXPECT_LE(NR_CYCLES / 4, judged);
	EXPECT_EQ(0, strange);
	EXPECT_EQ(0, zero_sizes) {
		TH_LOG("size 0 under the number of a file: %u", zero_sizes);
	}
	EXPECT_EQ(0, short_reads) {
		TH_LOG("end of file under the number of a file: %u", short_reads);
	}
	EXPECT_EQ(0, early_sizes) {
		TH_LOG("size of a file under the number of none: %u", early_sizes);
	}
	EXPECT_EQ(0, late_data) {
		TH_LOG("data of a file under the number of none: %u", late_data);
	}
}

/* A thread looks at the attribute at each event that has a new number. */
struct looker {
	pthread_t thread;
	struct watch *t;
	__u64 last;
	bool ro;		/* the medium that is being attached */
	bool attaching;
	bool stop;
	unsigned int looks;
	unsigned int wrong;
	unsigned int late;	/* DISK_RO after the first event */
	int error;
};

static int read_ro(const char *disk)
{
	char path[128], buf[32];
	int ret;

	snprintf(path, sizeof(path), "/sys/block/%s/ro", disk);
	ret = read_text(path, buf, sizeof(buf));
	return ret ? ret : atoi(buf);
}

static void *look_at_ro(void *arg)
{
	struct looker *l = arg;
	struct uevent ev;
	int ret;

	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		ret = uevent_read(l->t->nl, &ev, 100);
		if (ret < 0) {
			l->error = ret;
			break;
		}
		if (!ret || !uevent_is_own(&ev, l->t->name) || ev.partition ||
		    !__atomic_load_n(&l->attaching, __ATOMIC_ACQUIRE))
			continue;
		if (ev.diskseq > __atomic_load_n(&l->last, __ATOMIC_ACQUIRE)) {
			__atomic_store_n(&l->last, ev.diskseq, __ATOMIC_RELEASE);
			l->looks++;
			if (read_ro(l->t->name) != l->ro)
				l->wrong++;
		} else if (ev.ro_changed && ev.diskseq == l->last) {
			l->late++;
		}
	}
	return NULL;
}

TEST_F_TIMEOUT(order, first_event_of_an_attach_finds_it_read_only_or_not, 120)
{
	struct looker l = { .t = &self->t };
	__u64 seq = 0;
	int i, ret = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->lo.fd, &l.last));
	ASSERT_EQ(0, pthread_create(&l.thread, NULL, look_at_ro, &l));
	for (i = 0; !ret && i < NR_RO_CYCLES; i++) {
		long long deadline = now_ms() + PATIENCE_MS;

		l.ro = i & 1;
		__atomic_store_n(&l.attaching, true, __ATOMIC_RELEASE);
		ret = loop_configure(self->lo.fd, self->a,
				     l.ro ? LO_FLAGS_READ_ONLY : 0);
		/* let it look before the next change */
		while (!ret && __atomic_load_n(&l.looks, __ATOMIC_ACQUIRE) == i) {
			if (now_ms() > deadline)
				ret = -ETIMEDOUT;
			nap();
		}
		/* and read the rest of the events */
		nap();
		__atomic_store_n(&l.attaching, false, __ATOMIC_RELEASE);
		if (!ret)
			ret = loop_detach(self->lo.fd);
		/* those of the detach may be read late, and don't count */
		if (!ret)
			ret = diskseq_ioctl(self->lo.fd, &seq);
		__atomic_store_n(&l.last, seq, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&l.stop, true, __ATOMIC_RELEASE);
	pthread_join(l.thread, NULL);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, l.error);
	EXPECT_LE(NR_RO_CYCLES, l.looks);
	EXPECT_EQ(0, l.wrong);
	EXPECT_EQ(0, l.late) {
		TH_LOG("%u times DISK_RO came after the medium was announced",
		       l.late);
	}
}

/* Two partitions: at sectors 64 and 128 */
static int write_old_table(int fd, off_t at)
{
	const struct mbr_entry entries[] = {
		MBR_ENTRY(TYPE_LINUX, 64, 64),
		MBR_ENTRY(TYPE_LINUX, 128, 64),
	};

	return mbr_write(fd, at / SECTOR, entries, ARRAY_SIZE(entries));
}

/* The first one elsewhere, no second one, and a third */
static int write_new_table(int fd, off_t at)
{
	const struct mbr_entry entries[] = {
		MBR_ENTRY(TYPE_LINUX, 256, 64),
		{},
		MBR_ENTRY(TYPE_LINUX, 512, 64),
	};

	return mbr_write(fd, at / SECTOR, entries, ARRAY_SIZE(entries));
}

/* The event that adds the partition; the log keeps what came before. */
static int wait_for_partition(struct watch *t, int partno)
{
	long long deadline = now_ms() + PATIENCE_MS / 4;
	char name[80];
	struct uevent ev;
	int ret;

	snprintf(name, sizeof(name), "%sp%d", t->name, partno);
	for (;;) {
		ret = uevent_read(t->nl, &ev, deadline - now_ms());
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		ret = uevent_append(&t->log, &ev);
		if (ret)
			return ret;
		if (uevent_is_own(&ev, t->name) && uevent_is_add(&ev) &&
		    !strcmp(ev.devname, name))
			return 0;
	}
}

FIXTURE(change_fd)
{
	const char *reason;
	struct watch t;
	struct loop lo;
	int a;
	int b;
};

FIXTURE_VARIANT(change_fd)
{
	bool disk_closed;
};

FIXTURE_VARIANT_ADD(change_fd, disk_open)
{
	.disk_closed = false,
};

FIXTURE_VARIANT_ADD(change_fd, disk_closed)
{
	.disk_closed = true,
};

FIXTURE_SETUP(change_fd)
{
	memset(self, 0, sizeof(*self));
	self->lo.nr = -1;
	self->lo.fd = -1;
	self->a = -1;
	self->b = -1;
	self->t.nl = -1;
	self->reason = loop_unusable();
	if (self->reason)
		return;
	self->t.nl = uevent_open();
	ASSERT_LE(0, self->t.nl);
	self->a = labelled_file(IMAGE_SIZE, 'a');
	ASSERT_LE(0, self->a);
	ASSERT_EQ(0, write_old_table(self->a, 0));
	self->b = labelled_file(IMAGE_SIZE, 'b');
	ASSERT_LE(0, self->b);
	ASSERT_EQ(0, write_new_table(self->b, 0));
	ASSERT_EQ(0, loop_create(&self->lo));
	strcpy(self->t.name, self->lo.name);
	ASSERT_EQ(0, loop_configure(self->lo.fd, self->a,
				    LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, watch_settle(&self->t));
}

FIXTURE_TEARDOWN(change_fd)
{
	if (self->lo.nr >= 0) {
		if (self->lo.fd < 0)
			EXPECT_EQ(0, loop_open(&self->lo, O_RDONLY));
		EXPECT_EQ(0, loop_destroy(&self->lo));
	}
	if (self->b >= 0)
		close(self->b);
	if (self->a >= 0)
		close(self->a);
	if (self->t.nl >= 0)
		close(self->t.nl);
	free(self->t.log.ev);
}

TEST_F(change_fd, leaves_of_the_old_table_what_is_open_and_only_so_long)
{
	struct watch *t = &self->t;
	int p1, fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	p1 = open_partition(t->name, 1, O_RDONLY);
	ASSERT_LE(0, p1);
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_CHANGE_FD, self->b));

	/* not open: it goes at once, and is not opened under the new number */
	EXPECT_EQ(-ENOENT, partition_start(t->name, 2));
	fd = open_partition(t->name, 2, O_RDONLY);
	EXPECT_GT(0, fd);
	if (fd >= 0)
		close(fd);
	/* open: it stays until it is closed */
	EXPECT_EQ(64, partition_start(t->name, 1));

	if (variant->disk_closed)
		loop_close(&self->lo);
	ASSERT_EQ(0, watch_settle(t));
	close(p1);
	if (partition_start(t->name, 3) < 0)
		EXPECT_EQ(0, wait_for_partition(t, 3)) {
			TH_LOG("the new table is not scanned at the last close");
		}
	EXPECT_EQ(256, partition_start(t->name, 1));
	EXPECT_EQ(-ENOENT, partition_start(t->name, 2));
	EXPECT_EQ(512, partition_start(t->name, 3));
}

/*
 * The events of the partitions since the last look, of a medium that had the
 * number @old, and @final for its successor: those of the old one never have the
 * number of the new one.
 */
static void check_partition_events(struct __test_metadata *_metadata,
				   struct watch *t, __u64 old, __u64 final)
{
	unsigned int adds = 0, removes = 0;

	ASSERT_LT(old, final);
	ASSERT_EQ(0, uevent_fence(t->nl, t->name, &t->log));
	for (; t->mark < t->log.nr; t->mark++) {
		const struct uevent *ev = &t->log.ev[t->mark];

		if (!uevent_is_own(ev, t->name) || !ev->partition)
			continue;
		if (uevent_is_remove(ev)) {
			removes++;
			EXPECT_LE(old, ev->diskseq);
			EXPECT_GT(final, ev->diskseq) {
				TH_LOG("remove of %s has the new number",
				       ev->devname);
			}
		} else if (uevent_is_add(ev)) {
			adds++;
			EXPECT_EQ(final, ev->diskseq);
		}
	}
	EXPECT_EQ(2, removes);
	EXPECT_EQ(2, adds);
}

TEST_F(change_fd, removes_no_partition_of_the_old_file_with_the_new_number)
{
	struct watch *t = &self->t;
	__u64 old, final;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	old = watch_number(t);
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_CHANGE_FD, self->b));
	final = watch_number(t);
	check_partition_events(_metadata, t, old, final);
}

TEST_F(order, moved_offset_removes_no_partition_with_the_new_number)
{
	struct watch *t = &self->t;
	struct loop_info64 info;
	__u64 old, final;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, write_old_table(self->a, 0));
	ASSERT_EQ(0, write_new_table(self->a, HALF));
	ASSERT_EQ(0, loop_configure(self->lo.fd, self->a, LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, watch_settle(t));
	old = watch_number(t);
	ASSERT_EQ(0, loop_status(self->lo.fd, &info));
	info.lo_offset = HALF;
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_SET_STATUS64, &info));
	final = watch_number(t);
	check_partition_events(_metadata, t, old, final);
}

/*
 * The page at the old end was filled up with zeroes when it was read. When the
 * device or the partition grows it shows what is in the file.
 */

/* Where the device first differs from what is at @shift of the file, or -1. */
static long differs_at(int fd, unsigned char *map, char label)
{
	char buf[NEW_END];
	long i;

	if (pread(fd, buf, NEW_END, 0) != NEW_END)
		return 0;
	for (i = 0; i < NEW_END; i++)
		if (buf[i] != label)
			return i;
	for (i = 0; i < NEW_END; i += 64)
		if (peek(map + i) != label)
			return NEW_END + i;
	return -1;
}

TEST_F(order, page_at_the_old_end_shows_the_file_when_the_file_has_grown)
{
	struct watch *t = &self->t;
	unsigned char *map;
	char page[PAGE];
	__u64 seq;
	int file;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	file = labelled_file(OLD_END, 'a');
	ASSERT_LE(0, file);
	ASSERT_EQ(0, loop_configure(self->lo.fd, file, 0));
	seq = watch_number(t);
	EXPECT_EQ(OLD_END - PAGE, pread(self->lo.fd, page, PAGE, PAGE));
	map = mmap(NULL, NEW_END, PROT_READ, MAP_SHARED, self->lo.fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ('a', peek(map + PAGE));

	memset(page, 'a', sizeof(page));
	ASSERT_EQ(NEW_END - OLD_END, pwrite(file, page, NEW_END - OLD_END, OLD_END));
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_SET_CAPACITY));
	EXPECT_EQ(-1, differs_at(self->lo.fd, map, 'a'));
	EXPECT_EQ(seq, watch_number(t));
	munmap(map, NEW_END);
	close(file);
}

/* What was written there and is not yet in the file is not lost. */
TEST_F(order, page_at_the_old_end_keeps_what_was_written_when_the_file_has_grown)
{
	char page[PAGE];
	int file;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	file = labelled_file(OLD_END, 'b');
	ASSERT_LE(0, file);
	ASSERT_EQ(0, loop_configure(self->lo.fd, file, 0));
	memset(page, 'a', sizeof(page));
	ASSERT_EQ(OLD_END - PAGE, pwrite(self->lo.fd, page, OLD_END - PAGE, PAGE));
	ASSERT_EQ(NEW_END - OLD_END, pwrite(file, page, NEW_END - OLD_END, OLD_END));
	ASSERT_EQ(0, ioctl(self->lo.fd, LOOP_SET_CAPACITY));
	memset(page, 0, sizeof(page));
	ASSERT_EQ(PAGE, pread(self->lo.fd, page, PAGE, PAGE));
	EXPECT_EQ('a', page[0]);
	EXPECT_EQ('a', page[PAGE - 1]);
	ASSERT_EQ(0, fsync(self->lo.fd));
	memset(page, 0, sizeof(page));
	ASSERT_EQ(PAGE, pread(file, page, PAGE, PAGE));
	EXPECT_EQ('a', page[0]);
	EXPECT_EQ('a', page[PAGE - 1]);
	close(file);
}

/* Reads the page at the old end over and over, and so brings it in. */
struct end_reader {
	pthread_t thread;
	int fd;
	bool stop;
	unsigned int reads;
};

static void *read_the_end(void *arg)
{
	struct end_reader *r = arg;
	unsigned int seed = 1;
	char page[PAGE];
	int i;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		if (pread(r->fd, page, PAGE, PAGE) > 0)
			__atomic_add_fetch(&r->reads, 1, __ATOMIC_RELAXED);
		/* while the page is cached, another limit is refused */
		for (i = rand_r(&seed) % 40; i > 0; i--)
			nap();
	}
	return NULL;
}

static int set_limit(int fd, __u64 limit)
{
	struct loop_info64 info;
	int ret = loop_status(fd, &info);

	if (ret)
		return ret;
	info.lo_sizelimit = limit;
	return ioctl(fd, LOOP_SET_STATUS64, &info) ? -errno : 0;
}

TEST_F(order, page_at_the_old_end_shows_the_file_when_the_limit_is_raised)
{
	unsigned int wrong = 0, refused = 0;
	struct end_reader r = {};
	unsigned char *map;
	int i, ret = 0;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, loop_configure(self->lo.fd, self->a, 0));
	ASSERT_EQ(0, set_limit(self->lo.fd, OLD_END));
	r.fd = open_disk(self->lo.name, O_RDONLY);
	ASSERT_LE(0, r.fd);
	ASSERT_EQ(0, pthread_create(&r.thread, NULL, read_the_end, &r));
	for (i = 0; !ret && i < NR_GROWS; i++) {
		long long deadline = now_ms() + PATIENCE_MS;

		/* the unpatched kernel refuses while a page is cached, too */
		while ((ret = set_limit(self->lo.fd, NEW_END)) == -EAGAIN &&
		       now_ms() < deadline)
			refused++;
		if (ret)
			break;
		map = mmap(NULL, NEW_END, PROT_READ, MAP_SHARED, self->lo.fd, 0);
		if (map == MAP_FAILED) {
			ret = -errno;
			break;
		}
		if (differs_at(self->lo.fd, map, 'a') >= 0)
			wrong++;
		munmap(map, NEW_END);
		while ((ret = set_limit(self->lo.fd, OLD_END)) == -EAGAIN &&
		       now_ms() < deadline)
			refused++;
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	pthread_join(r.thread, NULL);
	close(r.fd);
	TH_LOG("%d times raised, %u times refused", i, refused);
	ASSERT_EQ(0, ret);
	EXPECT_LT(0, r.reads);
	EXPECT_EQ(0, wrong);
}

static int blkpg(int fd, int op, long long start, long long length)
{
	struct blkpg_partition part = {
		.start = start,
		.length = length,
		.pno = 1,
	};
	struct blkpg_ioctl_arg arg = {
		.op = op,
		.datalen = sizeof(part),
		.data = &part,
	};

	return ioctl(fd, BLKPG, &arg) ? -errno : 0;
}

TEST_F(order, page_at_the_old_end_of_a_partition_shows_the_file_when_it_grows)
{
	const long long start = 64 * SECTOR;
	unsigned char *map;
	char page[PAGE];
	int p1;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, loop_configure(self->lo.fd, self->a, 0));
	ASSERT_EQ(0, blkpg(self->lo.fd, BLKPG_ADD_PARTITION, start, OLD_END));
	p1 = open_partition(self->lo.name, 1, O_RDONLY);
	ASSERT_LE(0, p1);
	EXPECT_EQ(OLD_END - PAGE, pread(p1, page, PAGE, PAGE));
	map = mmap(NULL, NEW_END, PROT_READ, MAP_SHARED, p1, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ('a', peek(map + PAGE));
	ASSERT_EQ(0, blkpg(self->lo.fd, BLKPG_RESIZE_PARTITION, start, NEW_END));
	EXPECT_EQ(-1, differs_at(p1, map, 'a'));
	munmap(map, NEW_END);
	close(p1);
}

TEST_HARNESS_MAIN
