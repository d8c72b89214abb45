// SPDX-License-Identifier: GPL-2.0
/*
 * Programs that open and read an nbd device while servers are connected and
 * disconnected: they read one export under one number, and do not make a
 * connect or a disconnect fail.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "diskseq_nbd.h"
#include "diskseq_opener.h"

#define MAX_ROUNDS	400

struct reading {
	__u64 seq;
	long long tag;
};

struct reader {
	const char *name;
	struct reading *log;
	size_t nr;
	size_t room;
	bool stop;
	unsigned int reads;	/* that gave data */
};

static void *reader_run(void *arg)
{
	struct reader *r = arg;
	unsigned int i, round;

	for (round = 0; !flag_is_set(&r->stop); round++) {
		int fd = open_disk(r->name, O_RDONLY);

		if (fd < 0)
			continue;
		for (i = 0; i < 16; i++) {
			off_t page = (round * 16 + i) % 64;
			struct reading reading;
			__u64 again;

			if (diskseq_ioctl(fd, &reading.seq))
				continue;
			reading.tag = read_tag(fd, (page + 1) * PAGE);
			if (diskseq_ioctl(fd, &again) || again != reading.seq ||
			    reading.tag <= 0)
				continue;
			counter_inc(&r->reads);
			if (r->nr && r->log[r->nr - 1].seq == reading.seq &&
			    r->log[r->nr - 1].tag == reading.tag)
				continue;
			if (r->nr < r->room)
				r->log[r->nr++] = reading;
		}
		close(fd);
		/* a server can be connected while the device is not open */
		nap();
	}
	return NULL;
}

TEST_F_TIMEOUT(nbd, readers_see_one_export_under_one_number, 120)
{
	int rounds = test_rounds(MAX_ROUNDS), i;
	struct nbd *t = &self->t;
	__u64 seq[MAX_ROUNDS];
	struct reader r = { .name = t->w.name, .room = 64 * rounds };
	unsigned int wrong = 0;
	pthread_t thread;
	size_t n;

	SKIP_IF(return, self->reason);

	ASSERT_NE(0, watch_number(&t->w));
	r.log = calloc(r.room, sizeof(*r.log));
	ASSERT_NE(NULL, r.log);
	server_stop(&t->server);
	ASSERT_EQ(0, pthread_create(&thread, NULL, reader_run, &r));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, server_start(&t->server, i + 1, i % 2));
		ASSERT_EQ(0, nbd_connect_when_free(t, variant->netlink));
		seq[i] = watch_number(&t->w);
		ASSERT_TRUE(wait_for_count(&r.reads, counter_read(&r.reads) + 4));
		ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
		close_ioctl(t);
		server_stop(&t->server);
	}
	flag_set(&r.stop);
	ASSERT_EQ(0, pthread_join(thread, NULL));

	for (n = 0; n < r.nr; n++) {
		for (i = 0; i < rounds; i++)
			if (seq[i] == r.log[n].seq)
				break;
		if (i < rounds && r.log[n].tag == i + 1)
			continue;
		if (!wrong++)
			TH_LOG("export %lld under number %llu", r.log[n].tag,
			       (unsigned long long)r.log[n].seq);
	}
	EXPECT_LE(rounds, r.nr);
	EXPECT_EQ(0, wrong) {
		TH_LOG("%u of %zu", wrong, r.nr);
	}
	free(r.log);
}

struct visitor {
	const char *name;
	unsigned int visits;
	bool stop;
};

static void *visitor_run(void *arg)
{
	struct visitor *v = arg;

	int fd;

	while (!flag_is_set(&v->stop)) {
		fd = open_disk(v->name, O_RDONLY);
		if (fd >= 0)
			close(fd);
		counter_inc(&v->visits);
	}
	return NULL;
}

/* Opened and closed without pause, at every moment of a connect */
TEST_F_TIMEOUT(nbd, a_connect_survives_other_openers, 120)
{
	int rounds = test_rounds(MAX_ROUNDS), i;
	struct nbd *t = &self->t;
	struct visitor v = { .name = t->w.name };
	long long deadline;
	struct news news;
	pthread_t thread;
	__u64 first, seq;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, watch_settle(&t->w));
	first = watch_number(&t->w);
	ASSERT_NE(0, first);
	seq = first;
	server_stop(&t->server);
	ASSERT_EQ(0, pthread_create(&thread, NULL, visitor_run, &v));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, server_start(&t->server, i + 1, false));
		ASSERT_EQ(0, nbd_connect_when_free(t, variant->netlink));
		ASSERT_LT(seq, watch_number(&t->w));
		seq = watch_number(&t->w);
		ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
		close_ioctl(t);
		/* the visitor may be the last to close it */
		deadline = now_ms() + PATIENCE_MS;
		while (watch_number(&t->w) == seq && now_ms() < deadline)
			nap();
		ASSERT_LT(seq, watch_number(&t->w));
		seq = watch_number(&t->w);
		server_stop(&t->server);
	}
	flag_set(&v.stop);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LE(rounds, v.visits);
	ASSERT_EQ(0, watch_hear(&t->w, &news));
	EXPECT_EQ(2 * rounds, news.media);
	EXPECT_EQ(0, news.decreases);
	EXPECT_EQ(seq, news.last);
	EXPECT_EQ(0, uevent_unaccounted(t->w.nl, &t->w.log, first, seq));
}

#define MAX_RECONNECTS	60

/*
 * The events of a disconnect make programs open the device. The ioctls must not
 * fail because of that. A connect by netlink is refused while the device is
 * open, as it always was after the event of the last close, so it may fail
 * until that opener closes, but no longer.
 */
TEST_F_TIMEOUT(nbd, can_be_connected_again_at_once_with_an_opener, 120)
{
	int rounds = test_rounds(MAX_RECONNECTS), busy = 0, i, ret;
	struct nbd *t = &self->t;
	struct opener o;

	SKIP_IF(return, self->reason);

	server_stop(&t->server);
	ASSERT_EQ(0, opener_start(&o, t->w.name, false));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, server_start(&t->server, i + 1, i % 2));
		ret = nbd_connect(t, variant->netlink);
		if (ret == -EBUSY) {
			busy++;
			ASSERT_EQ(0, opener_settle(&o));
			ret = nbd_connect(t, variant->netlink);
		}
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, opener_settle(&o));
		ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
		close_ioctl(t);
		server_stop(&t->server);
	}
	EXPECT_LT(rounds, opener_stop(&o));
	TH_LOG("%d of %d busy", busy, rounds);
	if (!variant->netlink)
		EXPECT_EQ(0, busy);
}

TEST_HARNESS_MAIN
