// SPDX-License-Identifier: GPL-2.0
/*
 * In which order a loop device becomes another medium: a program that reads the
 * number, then the size, data, the read-only attribute or the partitions, and then
 * the same number again, has read what belongs to the medium that the number
 * stands for, or got an error.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdalign.h>

#include "diskseq.h"
#include "diskseq_order.h"
#include "diskseq_partition.h"

#define PROBED_AT	HALF	/* where the data is read */
#define NR_CYCLES	40
#define NR_RO_CYCLES	60
#define NR_SIZE_CYCLES	400	/* at most, */
#define SIZE_CYCLES_MS	4000	/* and for so long */

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
	disk_path(path, s->disk, "size");
	if (read_text(path, buf, sizeof(buf)))
		return false;
	*size = strtoull(buf, NULL, 10) * SECTOR;
	return true;
}

static void *share(void *arg)
{
	static __thread alignas(PAGE) char page[PAGE];
	struct sharer *s = arg;

	while (!flag_is_set(&s->stop)) {
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
	struct target t;
	struct sharer sharer;
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
	self->reason = labelled_target(_metadata, &self->t);
}

FIXTURE_TEARDOWN(shared_descriptor)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

TEST_F_TIMEOUT(shared_descriptor, shows_size_and_data_of_the_medium_with_that_number,
	       120)
{
	__u64 attached[NR_CYCLES] = {}, detached[NR_CYCLES + 1] = {};
	struct sharer *s = &self->sharer;
	unsigned int short_reads = 0, zero_sizes = 0, early_sizes = 0;
	unsigned int late_data = 0, strange = 0, judged = 0;
	int i, ret = 0, fd = self->t.lo.fd;
	size_t n;

	SKIP_IF(return, self->reason);
	if (variant->way != BY_SYSFS)
		SKIP_IF(return, loop_detach_unusable());

	s->disk = self->t.lo.name;
	s->fd = fd;
	s->way = variant->way;
	if (s->way == DIRECT)
		ASSERT_EQ(0, fcntl(fd, F_SETFL, O_DIRECT));
	ASSERT_EQ(0, diskseq_ioctl(fd, &detached[0]));
	ASSERT_EQ(0, pthread_create(&s->thread, NULL, share, s));
	for (i = 0; !ret && i < NR_CYCLES; i++) {
		ret = loop_configure(fd, self->t.image, 0);
		if (!ret)
			ret = diskseq_ioctl(fd, &attached[i]);
		nap();
		/* the thread has no descriptor of its own: this detaches */
		if (!ret)
			ret = loop_detach(fd);
		if (!ret)
			ret = diskseq_ioctl(fd, &detached[i + 1]);
		nap();
	}
	flag_set(&s->stop);
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

/* A thread reads the attribute at each event that has a new number. */
struct ro_reader {
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

	disk_path(path, disk, "ro");
	ret = read_text(path, buf, sizeof(buf));
	return ret ? ret : atoi(buf);
}

static void *look_at_ro(void *arg)
{
	struct ro_reader *l = arg;
	struct uevent ev;
	int ret;

	while (!flag_is_set(&l->stop)) {
		ret = uevent_read(l->t->nl, &ev, 100);
		if (ret < 0) {
			l->error = ret;
			break;
		}
		if (!ret || !uevent_is_own(&ev, l->t->name) || ev.partition ||
		    !flag_is_set(&l->attaching))
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
	struct ro_reader l = { .t = &self->t.w };
	__u64 seq = 0;
	int i, ret = 0;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, diskseq_ioctl(self->t.lo.fd, &l.last));
	ASSERT_EQ(0, pthread_create(&l.thread, NULL, look_at_ro, &l));
	for (i = 0; !ret && i < NR_RO_CYCLES; i++) {
		long long deadline = now_ms() + PATIENCE_MS;

		l.ro = i & 1;
		flag_set(&l.attaching);
		ret = loop_configure(self->t.lo.fd, self->t.image,
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
			ret = loop_detach(self->t.lo.fd);
		/* those of the detach may be read late, and don't count */
		if (!ret)
			ret = diskseq_ioctl(self->t.lo.fd, &seq);
		__atomic_store_n(&l.last, seq, __ATOMIC_RELEASE);
	}
	flag_set(&l.stop);
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
	struct target t;
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
	struct target *t = &self->t;

	self->reason = labelled_target(_metadata, t);
	if (self->reason)
		return;
	ASSERT_EQ(0, write_old_table(t->image, 0));
	ASSERT_EQ(0, write_new_table(t->other, 0));
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
				    LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, watch_settle(&t->w));
}

FIXTURE_TEARDOWN(change_fd)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

TEST_F(change_fd, leaves_of_the_old_table_what_is_open_and_only_so_long)
{
	struct watch *t = &self->t.w;
	int p1, fd;

	SKIP_IF(return, self->reason);

	p1 = open_partition(t->name, 1, O_RDONLY);
	ASSERT_LE(0, p1);
	ASSERT_EQ(0, ioctl(self->t.lo.fd, LOOP_CHANGE_FD, self->t.other));

	/* not open: it goes at once, and is not opened under the new number */
	EXPECT_EQ(-ENOENT, partition_start(t->name, 2));
	fd = open_partition(t->name, 2, O_RDONLY);
	EXPECT_GT(0, fd);
	if (fd >= 0)
		close(fd);
	/* open: it stays until it is closed */
	EXPECT_EQ(64, partition_start(t->name, 1));

	if (variant->disk_closed)
		loop_close(&self->t.lo);
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
static void check_moved_partitions(struct __test_metadata *_metadata,
				   struct watch *t, __u64 old, __u64 final)
{
	struct news news;

	ASSERT_LT(old, final);
	ASSERT_EQ(0, watch_hear(t, &news));
	EXPECT_EQ(2, news.removes.nr);
	EXPECT_LE(old, news.removes.lowest);
	EXPECT_GT(final, news.removes.highest) {
		TH_LOG("a remove has the new number");
	}
	check_partition_events(_metadata, &news.adds, 2, final);
}

TEST_F(change_fd, removes_no_partition_of_the_old_file_with_the_new_number)
{
	struct watch *t = &self->t.w;
	__u64 old, final;

	SKIP_IF(return, self->reason);

	old = watch_number(t);
	ASSERT_EQ(0, ioctl(self->t.lo.fd, LOOP_CHANGE_FD, self->t.other));
	final = watch_number(t);
	check_moved_partitions(_metadata, t, old, final);
}

/* A thread sets the size again and again; each call sends an event. */
struct size_setter {
	pthread_t thread;
	int fd;
	bool runs;
	bool stop;
	int error;
};

static void *set_size(void *arg)
{
	struct size_setter *s = arg;

	while (!s->error && !flag_is_set(&s->stop)) {
		if (ioctl(s->fd, LOOP_SET_CAPACITY))
			s->error = errno;
		flag_set(&s->runs);
	}
	return NULL;
}

TEST_F_TIMEOUT(order, change_fd_sends_its_events_in_order_while_the_size_is_set,
	       120)
{
	struct target *t = &self->t;
	const int files[] = { t->other, t->image };
	long long end = now_ms() + SIZE_CYCLES_MS;
	unsigned int decreases = 0;
	__u64 last, seq;
	int i, ret;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image, LO_FLAGS_READ_ONLY));
	ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &last));
	for (i = 0; i < NR_SIZE_CYCLES && now_ms() < end; i++) {
		struct size_setter s = { .fd = t->lo.fd };
		struct news news;

		ASSERT_EQ(0, pthread_create(&s.thread, NULL, set_size, &s));
		while (!flag_is_set(&s.runs))
			sched_yield();
		ret = ioctl(t->lo.fd, LOOP_CHANGE_FD, files[i & 1]);
		flag_set(&s.stop);
		pthread_join(s.thread, NULL);
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, s.error);

		ASSERT_EQ(0, diskseq_ioctl(t->lo.fd, &seq));
		EXPECT_LT(last, seq);
		last = seq;
		ASSERT_EQ(0, watch_hear(&t->w, &news));
		decreases += news.decreases;
		EXPECT_EQ(seq, news.last);
		watch_forget(&t->w);
	}
	EXPECT_LT(0, i);
	EXPECT_EQ(0, decreases) {
		TH_LOG("%u events have a smaller number than the one before, in %d changes",
		       decreases, i);
	}
}

TEST_F(order, moved_offset_removes_no_partition_with_the_new_number)
{
	struct watch *t = &self->t.w;
	struct loop_info64 info;
	__u64 old, final;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, write_old_table(self->t.image, 0));
	ASSERT_EQ(0, write_new_table(self->t.image, HALF));
	ASSERT_EQ(0, loop_configure(self->t.lo.fd, self->t.image, LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, watch_settle(t));
	old = watch_number(t);
	ASSERT_EQ(0, loop_status(self->t.lo.fd, &info));
	info.lo_offset = HALF;
	ASSERT_EQ(0, ioctl(self->t.lo.fd, LOOP_SET_STATUS64, &info));
	final = watch_number(t);
	check_moved_partitions(_metadata, t, old, final);
}

TEST_HARNESS_MAIN
