// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that an nbd server has not answered, or has answered with nonsense: a
 * disconnect fails them, each once, and hangs for none.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq_nbd.h"

static void *open_once(void *arg)
{
	int fd = open_disk(arg, O_RDONLY);

	if (fd >= 0)
		close(fd);
	return NULL;
}

/* A disconnect waits for openers, but not for those that wait for the server. */
TEST_F(nbd, a_server_that_is_mute_can_be_left)
{
	struct nbd *t = &self->t;
	long long begin;
	pthread_t opener;

	SKIP_IF(return, self->reason);

	ASSERT_NE(0, watch_number(&t->w));
	t->server.mute = true;
	/* it would go on then */
	t->timeout = 10;
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	ASSERT_EQ(0, pthread_create(&opener, NULL, open_once, t->w.name));
	ASSERT_TRUE(wait_for_count(&t->server.ignored, 1));
	begin = now_ms();
	ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
	ASSERT_EQ(0, pthread_join(opener, NULL));
	EXPECT_GT(1000 * t->timeout, now_ms() - begin);
	close_ioctl(t);
}

/* Of requests from now on */
static int set_timeout(struct nbd *t, unsigned int seconds)
{
	struct genl msg;

	reconfigure_init(t, &msg);
	genl_put_u64(&msg, NBD_ATTR_TIMEOUT, seconds);
	return genl_talk(t->genl, &msg, 0, NULL, 0);
}

/* A reader gets an error, not what was not sent, and another server may follow. */
TEST_F_TIMEOUT(nbd, a_server_that_talks_nonsense_can_be_left, 120)
{
	struct nbd *t = &self->t;
	enum nonsense nonsense;
	void *buf = NULL;
	__u64 seq;
	int fd;

	SKIP_IF(return, self->reason);

	ASSERT_NE(0, watch_number(&t->w));
	ASSERT_EQ(0, posix_memalign(&buf, PAGE, PAGE));
	for (nonsense = WRONG_MAGIC; nonsense < NONSENSE_END; nonsense++) {
		ASSERT_EQ(0, nbd_connect(t, variant->netlink));
		seq = watch_number(&t->w);
		fd = open_disk(t->w.name, O_RDONLY | O_DIRECT);
		ASSERT_LE(0, fd);
		ASSERT_EQ(PAGE, pread(fd, buf, PAGE, PAGE));
		/* it waits for another link, but not for ever */
		if (variant->netlink)
			ASSERT_EQ(0, set_timeout(t, 1));
		__atomic_store_n(&t->server.nonsense, nonsense, __ATOMIC_RELAXED);
		EXPECT_EQ(-1, pread(fd, buf, PAGE, 2 * PAGE));
		EXPECT_EQ(EIO, errno);
		close(fd);

		if (variant->netlink) {
			EXPECT_EQ(seq, watch_number(&t->w));
			ASSERT_EQ(0, disconnect_netlink(t));
		} else {
			join_ioctl(t);
		}
		close_ioctl(t);
		server_stop(&t->server);
		ASSERT_EQ(0, server_start(&t->server, 1 + nonsense, false));
	}
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_EQ(NONSENSE_END, read_tag_once(t));
	free(buf);
}

#define NR_REQUESTS	16
#define MAX_DISCONNECTS	50

struct requests {
	int fd;
	unsigned int issued;
	unsigned int done;
};

/* Reads until that fails: from the server, not from the page cache. */
static void *request_run(void *arg)
{
	struct requests *r = arg;
	off_t page = __atomic_add_fetch(&r->issued, 1, __ATOMIC_RELEASE);
	void *buf = NULL;

	if (!posix_memalign(&buf, PAGE, PAGE))
		while (pread(r->fd, buf, PAGE, page * PAGE) == PAGE)
			;
	free(buf);
	counter_inc(&r->done);
	return NULL;
}

static void *clear_sock(void *arg)
{
	struct requests *r = arg;

	ioctl(r->fd, NBD_CLEAR_SOCK);
	return NULL;
}

static void disconnect_with_requests(struct __test_metadata *_metadata,
				     struct nbd *t, bool netlink, bool mute,
				     bool two)
{
	pthread_t thread[NR_REQUESTS], other;
	struct requests r = { };
	bool done;
	int i;

	ASSERT_EQ(0, server_start(&t->server, 1, false));
	/* a kernel on which they hang is given time to show it, not for ever */
	t->timeout = 2 * PATIENCE_MS / 1000;
	ASSERT_EQ(0, nbd_connect(t, netlink));
	r.fd = open_disk(t->w.name, O_RDWR | O_DIRECT);
	ASSERT_LE(0, r.fd);
	/* not before the open has scanned for partitions */
	__atomic_store_n(&t->server.mute, mute, __ATOMIC_RELAXED);
	for (i = 0; i < NR_REQUESTS; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, request_run, &r));
	ASSERT_TRUE(wait_for_count(mute ? &t->server.ignored : &r.issued,
				   NR_REQUESTS));

	if (two)
		ASSERT_EQ(0, pthread_create(&other, NULL, clear_sock, &r));
	if (netlink)
		disconnect_netlink(t);
	else
		server_stop(&t->server);
	done = wait_for_count(&r.done, NR_REQUESTS);
	EXPECT_TRUE(done) {
		TH_LOG("%u of %u requests hang", NR_REQUESTS - r.done,
		       NR_REQUESTS);
	}
	/* this has always failed what is in flight */
	if (!done)
		disconnect_netlink(t);
	if (two)
		pthread_join(other, NULL);
	for (i = 0; i < NR_REQUESTS; i++)
		pthread_join(thread[i], NULL);
	close(r.fd);
	close_ioctl(t);
	server_stop(&t->server);
	ASSERT_TRUE(done);
}

TEST_F(nbd, requests_do_not_outlive_their_server)
{
	struct nbd *t = &self->t;

	SKIP_IF(return, self->reason);

	server_stop(&t->server);
	disconnect_with_requests(_metadata, t, variant->netlink, true, false);
}

/* Where that is not so the kernel warns of a count that underflows, or hangs. */
TEST_F_TIMEOUT(nbd, requests_complete_once_when_two_clear_the_queue, 90)
{
	int rounds = test_rounds(MAX_DISCONNECTS), i;
	struct nbd *t = &self->t;

	SKIP_IF(return, self->reason);

	ASSERT_NE(0, watch_number(&t->w));
	server_stop(&t->server);
	for (i = 0; i < rounds; i++)
		disconnect_with_requests(_metadata, t, variant->netlink, i % 2, true);
}

TEST_HARNESS_MAIN
