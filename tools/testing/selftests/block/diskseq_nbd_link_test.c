// SPDX-License-Identifier: GPL-2.0
/*
 * Another link to the same nbd server is no new medium. Requests may wait for one, but
 * NBD_CLEAR_SOCK does not, and one that was set after that can be ended.
 */
#define _GNU_SOURCE
#include <signal.h>

#include "diskseq_nbd.h"

TEST_F(nbd, another_link_to_the_server_is_no_new_medium)
{
	struct nbd *t = &self->t;
	struct server second;
	int fd, lost;
	__u64 seq;

	SKIP_IF(return, self->reason);
	if (!variant->netlink)
		SKIP(return, "links are replaced by netlink only");

	ASSERT_EQ(0, nbd_connect(t, true));
	fd = open_disk(t->w.name, O_RDONLY);
	ASSERT_LE(0, fd);
	/* no read-ahead: what is on its way when the link is lost stays there */
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	EXPECT_EQ(1, read_tag(fd, PAGE));
	ASSERT_EQ(0, watch_settle(&t->w));
	seq = watch_number(&t->w);

	/*
	 * A link that is lost. The thread that receives from it must have
	 * noticed, or it may take the next link for it, and end that.
	 */
	lost = nbd_listen();
	ASSERT_LE(0, lost);
	server_stop(&t->server);
	ASSERT_EQ(0, wait_for_lost_link(lost));
	close(lost);
	EXPECT_GE(0, read_tag(fd, 2 * PAGE));
	EXPECT_EQ(seq, watch_number(&t->w));
	ASSERT_EQ(0, server_start(&second, 1, false));
	EXPECT_EQ(-EBADF, reconfigure(t, -1));
	ASSERT_EQ(0, reconfigure(t, second.theirs));
	EXPECT_EQ(1, read_tag(fd, 3 * PAGE));
	check_nothing(_metadata, &t->w, seq, false);

	/* and one that is alive */
	EXPECT_EQ(0, reconfigure(t, second.theirs));
	check_nothing(_metadata, &t->w, seq, false);

	close(fd);
	ASSERT_EQ(0, disconnect_netlink(t));
	check_server_change(_metadata, t, seq);
	server_stop(&second);
}

/* After a disconnect, while the device is open: a kernel may refuse that. */
TEST_F(nbd, a_link_after_a_disconnect_is_no_new_medium)
{
	struct nbd *t = &self->t;
	struct server second;
	int fd, ret;
	__u64 seq;

	SKIP_IF(return, self->reason);
	if (!variant->netlink)
		SKIP(return, "links are replaced by netlink only");

	ASSERT_EQ(0, nbd_connect(t, true));
	fd = open_disk(t->w.name, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, read_tag(fd, PAGE));
	ASSERT_EQ(0, disconnect_netlink(t));
	ASSERT_EQ(0, watch_settle(&t->w));

	seq = watch_number(&t->w);
	ASSERT_EQ(0, server_start(&second, 1, false));
	ret = reconfigure(t, second.theirs);
	if (ret) {
		EXPECT_EQ(-EINVAL, ret);
		EXPECT_EQ(-EIO, read_tag(fd, EXPORT_SIZE / 2));
	} else {
		EXPECT_EQ(1, read_tag(fd, EXPORT_SIZE / 2));
		/* it is a device of netlink's as before */
		EXPECT_EQ(-1, ioctl(fd, NBD_SET_SIZE,
				    (unsigned long)EXPORT_SIZE / 2));
		EXPECT_EQ(EINVAL, errno);
	}
	check_nothing(_metadata, &t->w, seq, false);
	ASSERT_EQ(0, disconnect_netlink(t));
	close(fd);
	check_server_change(_metadata, t, seq);
	server_stop(&second);
}

struct waiting {
	int fd;
	ssize_t ret;
	pid_t tid;
	bool started;
	bool done;
};

static void *read_without_link(void *arg)
{
	struct waiting *r = arg;
	void *buf = NULL;

	r->tid = syscall(__NR_gettid);
	flag_set(&r->started);
	if (!posix_memalign(&buf, PAGE, PAGE))
		r->ret = pread(r->fd, buf, PAGE, PAGE);
	free(buf);
	flag_set(&r->done);
	return NULL;
}

#define DEAD_LINK_S	20

/* A reconnect by netlink, which could end the wait, would have to wait for the ioctl. */
TEST_F_TIMEOUT(nbd, a_request_that_waits_for_a_link_does_not_hold_up_a_clear_sock, 90)
{
	struct waiting r = { };
	struct nbd *t = &self->t;
	long long begin;
	pthread_t reader;
	int fd, lost;

	SKIP_IF(return, self->reason);
	if (!variant->netlink)
		SKIP(return, "requests wait for another link by netlink only");

	t->dead_link = DEAD_LINK_S;
	ASSERT_EQ(0, nbd_connect(t, true));
	fd = open_disk(t->w.name, O_RDONLY | O_DIRECT);
	ASSERT_LE(0, fd);
	lost = nbd_listen();
	ASSERT_LE(0, lost);
	server_stop(&t->server);
	ASSERT_EQ(0, wait_for_lost_link(lost));
	close(lost);

	r.fd = fd;
	ASSERT_EQ(0, pthread_create(&reader, NULL, read_without_link, &r));
	while (!flag_is_set(&r.started))
		nap();
	EXPECT_TRUE(wait_until_it_waits(r.tid, &r.done));
	begin = now_ms();
	EXPECT_EQ(0, ioctl(fd, NBD_CLEAR_SOCK));
	EXPECT_GT(1000 * DEAD_LINK_S / 2, now_ms() - begin);
	pthread_join(reader, NULL);
	EXPECT_EQ(-1, r.ret);
	close(fd);
	disconnect_netlink(t);
}

/* Three ways to end a link that came after an NBD_CLEAR_SOCK */

struct ending {
	struct nbd *t;
	enum { BY_CLEAR_SOCK, BY_NETLINK, BY_SIGNAL } way;
	unsigned int done;
};

static void *end_link(void *arg)
{
	struct ending *e = arg;

	if (e->way == BY_CLEAR_SOCK) {
		ioctl(e->t->fd, NBD_CLEAR_SOCK);
	} else if (e->way == BY_NETLINK) {
		disconnect_netlink(e->t);
	} else {
		pthread_kill(e->t->thread, SIGUSR1);
		join_ioctl(e->t);
	}
	counter_inc(&e->done);
	return NULL;
}

static void on_signal(int sig)
{
}

/* A link that does not end is ended by its server, so that the test ends. */
TEST_F_TIMEOUT(nbd, a_link_set_after_a_clear_sock_can_be_ended, 120)
{
	const struct sigaction act = { .sa_handler = on_signal };
	struct nbd *t = &self->t;
	struct server second;
	pthread_t thread;
	int way;

	SKIP_IF(return, self->reason);
	if (variant->netlink)
		SKIP(return, "a socket can be set twice by ioctl only");

	ASSERT_EQ(0, sigaction(SIGUSR1, &act, NULL));
	for (way = BY_CLEAR_SOCK; way <= BY_SIGNAL; way++) {
		struct ending e = { .t = t, .way = way };
		bool done;

		ASSERT_EQ(0, server_start(&second, 2, false));
		ASSERT_EQ(0, setup_ioctl(t));
		ASSERT_EQ(0, ioctl(t->fd, NBD_SET_FLAGS,
				   (unsigned long)(NBD_FLAG_HAS_FLAGS |
						   NBD_FLAG_CAN_MULTI_CONN)));
		ASSERT_EQ(0, ioctl(t->fd, NBD_SET_SOCK,
				   (unsigned long)t->server.theirs));
		ASSERT_EQ(0, ioctl(t->fd, NBD_CLEAR_SOCK));
		ASSERT_EQ(0, start_ioctl(t, &second));
		ASSERT_EQ(0, pthread_create(&thread, NULL, end_link, &e));
		done = wait_for_count(&e.done, 1);
		EXPECT_TRUE(done) {
			TH_LOG("way %d hangs", way);
		}
		server_stop(&second);
		pthread_join(thread, NULL);
		close_ioctl(t);
		server_stop(&t->server);
		ASSERT_EQ(0, server_start(&t->server, 1, false));
	}
}

TEST_HARNESS_MAIN
