// SPDX-License-Identifier: GPL-2.0
/*
 * A program that reads the number, then data, then the same number again has read
 * the medium that the number stands for: through the page cache, a mapping and
 * direct I/O, on the disk and on a partition. And the data of one file never ends
 * up in another.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "diskseq.h"
#include "diskseq_peek.h"
#include "diskseq_skip.h"

#define IMAGE_SIZE	0x100000
#define PART_SIZE	(64 << 9)
#define NR_CYCLES	200	/* at most */
#define NR_SWITCHES	200

static long page_size;

/* Every page of the file is full of its label, but for the partition table. */
static int labelled_file(unsigned char label)
{
	unsigned char *buf;
	int fd, ret = 0;

	fd = backing_file(IMAGE_SIZE, true);
	if (fd < 0)
		return fd;
	buf = malloc(IMAGE_SIZE);
	if (!buf || pread(fd, buf, 512, 0) != 512)
		ret = -ENOMEM;
	if (!ret) {
		memset(buf, label, 446);
		memset(buf + 512, label, IMAGE_SIZE - 512);
		if (pwrite(fd, buf, IMAGE_SIZE, 0) != IMAGE_SIZE)
			ret = -EIO;
	}
	free(buf);
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

/* The first byte after the table that is not as the label wants it, or -1. */
static long differs_at(int fd, unsigned char label)
{
	unsigned char *buf = malloc(IMAGE_SIZE);
	long i, at = -1;

	if (!buf || pread(fd, buf, IMAGE_SIZE, 0) != IMAGE_SIZE)
		at = 0;
	for (i = 512; at < 0 && i < IMAGE_SIZE; i++)
		if (buf[i] != label)
			at = i;
	free(buf);
	return at;
}

/* A loop device and two files for it. */
struct images {
	struct loop lo;
	int a;
	int b;
};

static const char *images_unusable(struct images *img)
{
	page_size = sysconf(_SC_PAGESIZE);
	img->a = -1;
	img->b = -1;
	img->lo.nr = -1;
	img->lo.fd = -1;
	return loop_unusable();
}

static int images_create(struct images *img)
{
	int ret = peek_init();

	if (ret)
		return ret;
	img->a = labelled_file('a');
	if (img->a < 0)
		return img->a;
	img->b = labelled_file('b');
	if (img->b < 0)
		return img->b;
	return loop_create(&img->lo);
}

static int images_destroy(struct images *img)
{
	int ret = 0;

	if (img->lo.nr >= 0)
		ret = loop_destroy(&img->lo);
	if (img->b >= 0)
		close(img->b);
	if (img->a >= 0)
		close(img->a);
	return ret;
}

FIXTURE(data)
{
	const char *reason;
	struct images img;
};

FIXTURE_SETUP(data)
{
	self->reason = images_unusable(&self->img);
	if (!self->reason)
		ASSERT_EQ(0, images_create(&self->img));
}

FIXTURE_TEARDOWN(data)
{
	EXPECT_EQ(0, images_destroy(&self->img));
}

TEST_F(data, written_before_detach_is_in_the_file_after_it)
{
	unsigned char buf[512];

	SKIP_IF(return, self->reason);

	memset(buf, 'x', sizeof(buf));
	ASSERT_EQ(0, loop_configure(self->img.lo.fd, self->img.a, 0));
	ASSERT_EQ(sizeof(buf), pwrite(self->img.lo.fd, buf, sizeof(buf), 8192));
	ASSERT_EQ(0, loop_detach(self->img.lo.fd));

	memset(buf, 0, sizeof(buf));
	ASSERT_EQ(sizeof(buf), pread(self->img.a, buf, sizeof(buf), 8192));
	EXPECT_EQ('x', buf[0]);
	EXPECT_EQ('x', buf[sizeof(buf) - 1]);
}

/* Another opener, again and again: it writes a counter and closes the disk. */
struct counting {
	const char *name;
	__u64 seq;		/* the number of the medium that is written to */
	unsigned int count;
	unsigned int written;	/* the last one whose calls all succeeded */
	bool stop;
};

static void count_once(struct counting *c, unsigned int *page)
{
	int fd = open_disk(c->name, O_RDWR);
	__u64 seq = 0;
	bool ok;

	if (fd < 0)
		return;
	page[0] = ++c->count;
	ok = !diskseq_ioctl(fd, &seq) && seq == c->seq &&
	     pwrite(fd, page, page_size, page_size) == page_size &&
	     !diskseq_ioctl(fd, &seq) && seq == c->seq;
	if (!close(fd) && ok)
		__atomic_store_n(&c->written, c->count, __ATOMIC_RELEASE);
}

static void *count_without_pause(void *arg)
{
	struct counting *c = arg;
	unsigned int *page = calloc(1, page_size);

	while (page && !flag_is_set(&c->stop))
		count_once(c, page);
	free(page);
	return NULL;
}

TEST_F_TIMEOUT(data, written_by_another_opener_is_in_the_file_after_detach, 120)
{
	struct counting c = { .name = self->img.lo.name };
	int n, ret, rounds = test_rounds(NR_CYCLES);
	int fd = self->img.lo.fd, file = self->img.a;
	unsigned int lost = 0, held = 0;
	pthread_t thread;
	off_t at;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(sizeof(held), pwrite(file, &held, sizeof(held), page_size));
	for (n = 0; n < rounds; n++) {
		ASSERT_EQ(0, loop_configure(fd, file, 0));
		ASSERT_EQ(0, diskseq_ioctl(fd, &c.seq));
		c.stop = false;
		ASSERT_EQ(0, pthread_create(&thread, NULL, count_without_pause, &c));
		EXPECT_TRUE(wait_for_count(&c.written, c.written + 1));
		/* many requests, so that the write-back takes some time */
		for (at = 0; at < IMAGE_SIZE; at += 2 * page_size)
			EXPECT_EQ(1, pwrite(fd, "x", 1, at));
		ret = loop_detach(fd);
		flag_set(&c.stop);
		pthread_join(thread, NULL);
		ASSERT_EQ(0, ret);
		ASSERT_EQ(sizeof(held), pread(file, &held, sizeof(held), page_size));
		lost += held < c.written;
	}
	EXPECT_EQ(0, lost) {
		TH_LOG("lost in %u of %d detaches", lost, n);
	}
}

TEST_F(data, of_the_old_file_does_not_show_after_attach)
{
	unsigned char *map;

	SKIP_IF(return, self->reason);
	SKIP_IF(return, loop_detach_unusable());

	ASSERT_EQ(0, loop_configure(self->img.lo.fd, self->img.a, 0));
	map = mmap(NULL, IMAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   self->img.lo.fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ('a', peek(map + page_size));
	ASSERT_EQ(-1, differs_at(self->img.lo.fd, 'a'));

	ASSERT_EQ(0, loop_detach(self->img.lo.fd));
	EXPECT_EQ(-EIO, peek(map + page_size));
	ASSERT_EQ(0, loop_configure(self->img.lo.fd, self->img.b, 0));
	EXPECT_EQ('b', peek(map + page_size));
	EXPECT_EQ(-1, differs_at(self->img.lo.fd, 'b'));
	munmap(map, IMAGE_SIZE);
}

TEST_F(data, of_the_old_file_is_not_written_into_the_new_one)
{
	unsigned char *map;

	SKIP_IF(return, self->reason);
	SKIP_IF(return, loop_detach_unusable());

	ASSERT_EQ(0, loop_configure(self->img.lo.fd, self->img.a, 0));
	map = mmap(NULL, IMAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		   self->img.lo.fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	memset(map + page_size, 'x', page_size);
	ASSERT_EQ(0, loop_detach(self->img.lo.fd));
	ASSERT_EQ(0, loop_configure(self->img.lo.fd, self->img.b, 0));
	munmap(map, IMAGE_SIZE);
	ASSERT_EQ(0, fsync(self->img.lo.fd));
	ASSERT_EQ(0, loop_detach(self->img.lo.fd));
	EXPECT_EQ(-1, differs_at(self->img.b, 'b'));
}

/* A thread that reads the number, data, and the number again. */
enum access_way { BUFFERED, MAPPED, DIRECT };

struct sample {
	__u64 seq;
	bool a;			/* this label was read under the number */
	bool b;
};

struct reader {
	pthread_t thread;
	enum access_way way;
	int fd;
	size_t size;
	const bool *stop;
	struct sample *samples;
	size_t nr;
	size_t room;
	__u64 seen;		/* number of the last reading */
	int error;
};

static int read_label(struct reader *r, unsigned char *map, unsigned char *buf,
		      off_t at)
{
	ssize_t len = r->way == DIRECT ? page_size : 1;

	if (r->way == MAPPED)
		return peek(map + at);
	if (pread(r->fd, buf, len, at) != len)
		return -EIO;
	return buf[0];
}

static void *read_without_pause(void *arg)
{
	struct reader *r = arg;
	unsigned char *map = MAP_FAILED;
	__u64 before, after;
	unsigned int seed = 1;
	void *buf = NULL;
	int label;
	off_t at;

	if (posix_memalign(&buf, page_size, page_size)) {
		r->error = -ENOMEM;
		return NULL;
	}
	if (r->way == MAPPED) {
		map = mmap(NULL, r->size, PROT_READ, MAP_SHARED, r->fd, 0);
		if (map == MAP_FAILED)
			r->error = -errno;
	}
	while (!r->error && !flag_is_set(r->stop)) {
		/* not the first page, where the table is */
		at = page_size * (1 + rand_r(&seed) % (r->size / page_size - 1));
		r->error = diskseq_ioctl(r->fd, &before);
		if (r->error)
			break;
		label = read_label(r, map, buf, at);
		r->error = diskseq_ioctl(r->fd, &after);
		if (label < 0 || before != after || !r->samples)
			continue;
		if (!r->nr || r->samples[r->nr - 1].seq != before) {
			if (r->nr == r->room) {
				r->error = -ENOSPC;
				break;
			}
			r->samples[r->nr++].seq = before;
		}
		if (label == 'a')
			r->samples[r->nr - 1].a = true;
		else
			r->samples[r->nr - 1].b = true;
		__atomic_store_n(&r->seen, before, __ATOMIC_RELAXED);
	}
	if (map != MAP_FAILED)
		munmap(map, r->size);
	free(buf);
	return NULL;
}

/* Wait until this number's medium has been read. */
static int wait_for_reading(struct reader *r, __u64 seq)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (__atomic_load_n(&r->seen, __ATOMIC_RELAXED) < seq) {
		if (now_ms() > deadline)
			return -ETIMEDOUT;
		sched_yield();
	}
	return 0;
}

FIXTURE(readers)
{
	const char *reason;
	struct images img;
	struct reader reader;
	__u64 media[NR_SWITCHES];	/* a and b in turn */
	bool stop;
};

FIXTURE_VARIANT(readers)
{
	enum access_way way;
	bool partition;
};

FIXTURE_VARIANT_ADD(readers, buffered)
{
	.way = BUFFERED,
};

FIXTURE_VARIANT_ADD(readers, mapped)
{
	.way = MAPPED,
};

FIXTURE_VARIANT_ADD(readers, direct)
{
	.way = DIRECT,
};

FIXTURE_VARIANT_ADD(readers, buffered_partition)
{
	.way = BUFFERED,
	.partition = true,
};

FIXTURE_VARIANT_ADD(readers, mapped_partition)
{
	.way = MAPPED,
	.partition = true,
};

FIXTURE_VARIANT_ADD(readers, direct_partition)
{
	.way = DIRECT,
	.partition = true,
};

FIXTURE_SETUP(readers)
{
	memset(&self->reader, 0, sizeof(self->reader));
	self->reader.fd = -1;
	self->stop = false;
	self->reason = images_unusable(&self->img);
	if (!self->reason)
		ASSERT_EQ(0, images_create(&self->img));
}

FIXTURE_TEARDOWN(readers)
{
	if (self->reader.fd >= 0)
		close(self->reader.fd);
	free(self->reader.samples);
	EXPECT_EQ(0, images_destroy(&self->img));
}

/* Open the disk or its partition, and read it until @stop is set. */
static int reader_start(struct reader *r, const struct loop *lo, enum access_way way,
			bool partition, const bool *stop)
{
	int flags = O_RDONLY | (way == DIRECT ? O_DIRECT : 0);
	char dev[64];

	r->way = way;
	r->stop = stop;
	r->room = 4 * NR_SWITCHES;	/* there are numbers in between */
	r->samples = calloc(r->room, sizeof(*r->samples));
	if (!r->samples)
		return -ENOMEM;
	r->size = IMAGE_SIZE;
	snprintf(dev, sizeof(dev), "%s", lo->name);
	if (partition) {
		r->size = PART_SIZE;
		snprintf(dev, sizeof(dev), "%s/%sp1", lo->name, lo->name);
	}
	r->fd = open_disk(dev, flags);
	if (r->fd < 0)
		return r->fd;
	return -pthread_create(&r->thread, NULL, read_without_pause, r);
}

TEST_F_TIMEOUT(readers, see_under_a_number_the_file_it_stands_for, 120)
{
	struct reader *r = &self->reader;
	unsigned int judged = 0, wrong = 0;
	size_t i;
	int n, ret, switches = test_rounds(NR_SWITCHES);

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(self->img.lo.fd, self->img.a,
				    LO_FLAGS_READ_ONLY | LO_FLAGS_PARTSCAN));
	ASSERT_EQ(0, diskseq_ioctl(self->img.lo.fd, &self->media[0]));
	ASSERT_EQ(0, reader_start(r, &self->img.lo, variant->way,
				  variant->partition, &self->stop));
	ret = wait_for_reading(r, self->media[0]);
	for (n = 1; !ret && n < switches; n++) {
		if (ioctl(self->img.lo.fd, LOOP_CHANGE_FD, n & 1 ? self->img.b : self->img.a))
			ret = -errno;
		else
			ret = diskseq_ioctl(self->img.lo.fd, &self->media[n]);
		if (!ret)
			ret = wait_for_reading(r, self->media[n]);
	}
	flag_set(&self->stop);
	pthread_join(r->thread, NULL);
	ASSERT_EQ(0, r->error);
	ASSERT_EQ(0, ret);

	for (i = 0, n = 0; i < r->nr && n < switches; i++) {
		const struct sample *s = &r->samples[i];

		/* numbers in between stand for nothing */
		if (s->seq != self->media[n])
			continue;
		judged++;
		if (n & 1 ? s->a : s->b)
			wrong++;
		n++;
	}
	EXPECT_EQ(0, wrong) {
		TH_LOG("the wrong file was read under %u of %u numbers", wrong,
		       judged);
	}
	EXPECT_EQ(switches, judged);
}

/* A reader that shares the descriptor with the program that detaches and attaches. */
FIXTURE(reattached)
{
	const char *reason;
	struct images img;
	struct reader reader;
	bool stop;
};

FIXTURE_VARIANT(reattached)
{
	enum access_way way;
};

FIXTURE_VARIANT_ADD(reattached, buffered)
{
	.way = BUFFERED,
};

FIXTURE_VARIANT_ADD(reattached, mapped)
{
	.way = MAPPED,
};

FIXTURE_VARIANT_ADD(reattached, direct)
{
	.way = DIRECT,
};

FIXTURE_SETUP(reattached)
{
	memset(&self->reader, 0, sizeof(self->reader));
	self->stop = false;
	self->reason = images_unusable(&self->img);
	if (!self->reason)
		ASSERT_EQ(0, images_create(&self->img));
}

FIXTURE_TEARDOWN(reattached)
{
	EXPECT_EQ(0, images_destroy(&self->img));
}

TEST_F_TIMEOUT(reattached, shows_the_new_file_to_concurrent_readers, 120)
{
	struct reader *r = &self->reader;
	struct images *img = &self->img;
	int n, fd, ret = 0, cycles = test_rounds(NR_CYCLES);
	unsigned int wrong = 0;

	SKIP_IF(return, self->reason);
	SKIP_IF(return, loop_detach_unusable());

	r->fd = img->lo.fd;
	r->way = variant->way;
	r->stop = &self->stop;
	r->size = IMAGE_SIZE;
	if (variant->way == DIRECT)
		ASSERT_EQ(0, fcntl(r->fd, F_SETFL, O_DIRECT));
	ASSERT_EQ(0, pthread_create(&r->thread, NULL, read_without_pause, r));
	for (n = 0; !ret && n < cycles; n++) {
		ret = loop_configure(img->lo.fd, n & 1 ? img->b : img->a, 0);
		if (ret)
			break;
		fd = open_disk(img->lo.name, O_RDONLY);
		if (fd < 0 || differs_at(fd, n & 1 ? 'b' : 'a') >= 0)
			wrong++;
		close(fd);
		ret = loop_detach(img->lo.fd);
	}
	flag_set(&self->stop);
	pthread_join(r->thread, NULL);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, r->error);
	EXPECT_EQ(0, wrong) {
		TH_LOG("%u of %d files showed another's data", wrong, n);
	}
}

TEST_HARNESS_MAIN
