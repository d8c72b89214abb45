// SPDX-License-Identifier: GPL-2.0
/*
 * A network block device gets a new sequence number when a server is connected and
 * when its last opener has gone after a disconnect, by ioctl and by netlink, and
 * reports both in uevents. Size, data and partitions belong to the export that the
 * number stands for.
 */
#define _GNU_SOURCE
#include "diskseq_nbd.h"
#include "diskseq_partition.h"
#include "diskseq_size.h"

TEST_F(nbd, connect_and_disconnect_are_announced)
{
	struct nbd *t = &self->t;
	__u64 seq;

	SKIP_IF(return, self->reason);

	seq = watch_number(&t->w);
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	seq = check_server_change(_metadata, t, seq);
	EXPECT_EQ(1, read_tag_once(t));

	ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
	/* the clean-up of every client is no other change */
	if (!variant->netlink)
		ASSERT_EQ(0, ioctl(t->fd, NBD_CLEAR_SOCK));
	close_ioctl(t);
	seq = check_server_change(_metadata, t, seq);
	EXPECT_GE(0, read_tag_once(t));
	check_nothing(_metadata, &t->w, seq, false);
}

#define MAX_SIZES	40

/* Each number has one size: that of the export, or none. */
TEST_F(nbd, a_number_has_one_size)
{
	int rounds = test_rounds(MAX_SIZES), i, fd;
	struct nbd *t = &self->t;
	struct size_reader r;

	SKIP_IF(return, self->reason);
	if (variant->netlink)
		SKIP(return, "what is open cannot be connected by netlink");

	server_stop(&t->server);
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, server_start(&t->server, 1, false));
		fd = open_disk(t->w.name, O_RDONLY);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, size_reader_start(&r, t->w.name, fd));
		ASSERT_EQ(0, nbd_connect(t, false));
		ASSERT_EQ(0, nbd_disconnect(t, false));
		ASSERT_EQ(0, ioctl(t->fd, NBD_CLEAR_SOCK));
		size_reader_stop(&r);
		EXPECT_EQ(0, r.wrong) {
			TH_LOG("%u reads find another size", r.wrong);
		}
		close(fd);
		close_ioctl(t);
		server_stop(&t->server);
	}
}

static int resize(struct nbd *t, bool netlink, __u64 size)
{
	struct genl msg;

	if (!netlink)
		return ioctl(t->fd, NBD_SET_SIZE, (unsigned long)size) ? -errno : 0;
	reconfigure_init(t, &msg);
	genl_put_u64(&msg, NBD_ATTR_SIZE_BYTES, size);
	return genl_talk(t->genl, &msg, 0, NULL, 0);
}

/*
 * NBD_SET_SIZE sends an event even if the size stays the same. NBD_CMD_RECONFIGURE
 * with the same size does nothing.
 */
TEST_F(nbd, a_resize_is_reported_and_keeps_the_number)
{
	struct nbd *t = &self->t;
	struct uevent ev;
	__u64 seq, size;
	int fd, i;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	fd = open_disk(t->w.name, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, watch_settle(&t->w));
	seq = watch_number(&t->w);
	ASSERT_NE(0, seq);
	for (i = 0; i < (variant->netlink ? 1 : 2); i++) {
		ASSERT_EQ(0, resize(t, variant->netlink, 2 * EXPORT_SIZE));
		ASSERT_EQ(0, watch_wait(&t->w, uevent_is_change, PATIENCE_MS, &ev));
		EXPECT_EQ(seq, ev.diskseq);
		check_nothing(_metadata, &t->w, seq, true);
		ASSERT_EQ(0, ioctl(fd, BLKGETSIZE64, &size));
		EXPECT_EQ(2 * EXPORT_SIZE, size);
	}
	close(fd);
}

/* An opener keeps the number until it closes: it can read one export only. */
TEST_F(nbd, an_opener_keeps_the_number_of_its_export)
{
	struct nbd *t = &self->t;
	__u64 seq, now = 0;
	long long tag;
	int fd;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	fd = open_disk(t->w.name, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, read_tag(fd, PAGE));
	ASSERT_EQ(0, watch_settle(&t->w));
	seq = watch_number(&t->w);

	ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
	close_ioctl(t);
	server_stop(&t->server);
	ASSERT_EQ(0, server_start(&t->server, 2, false));
	EXPECT_EQ(-EBUSY, nbd_connect(t, variant->netlink));
	ASSERT_EQ(0, diskseq_ioctl(fd, &now));
	EXPECT_EQ(seq, now);
	/* what it has read may still be cached */
	tag = read_tag(fd, PAGE);
	EXPECT_TRUE(tag == 1 || tag == -EIO) {
		TH_LOG("tag %lld", tag);
	}
	EXPECT_EQ(-EIO, read_tag(fd, EXPORT_SIZE / 2));
	check_nothing(_metadata, &t->w, seq, false);
	close(fd);
	seq = check_server_change(_metadata, t, seq);
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_EQ(2, read_tag_once(t));
	EXPECT_LT(seq, watch_number(&t->w));
}

/* They come with the number of their export and go at the next open. */
static void check_partitions(struct __test_metadata *_metadata, struct nbd *t,
			     bool netlink, bool opener)
{
	struct news news;
	__u64 seq;
	int fd = -1;

	t->server.partitioned = true;
	ASSERT_EQ(0, nbd_connect(t, netlink));
	seq = watch_number(&t->w);
	ASSERT_NE(0, seq);
	/* the first open scans for them */
	EXPECT_EQ(1, read_tag_once(t));
	if (opener)
		fd = open_disk(t->w.name, O_RDONLY);
	ASSERT_EQ(0, nbd_disconnect(t, netlink));
	if (opener)
		EXPECT_EQ(seq, watch_number(&t->w));
	close_ioctl(t);
	read_tag_once(t);
	if (opener)
		close(fd);
	EXPECT_LT(seq, watch_number(&t->w));

	ASSERT_EQ(0, watch_hear(&t->w, &news));
	check_partition_events(_metadata, &news.adds, udev_is_running() ?
			       news.adds.nr : NR_PARTITIONS, seq);
	/* udev may hold one open, so that none is dropped */
	if (udev_is_running())
		return;
	EXPECT_EQ(NR_PARTITIONS, news.removes.nr);
	EXPECT_LE(seq, news.removes.lowest);
}

TEST_F(nbd, partitions_have_the_number_of_their_export)
{
	SKIP_IF(return, self->reason);

	check_partitions(_metadata, &self->t, variant->netlink, false);
}

/* One that is open keeps all, but not for longer than it is. */
TEST_F(nbd, partition_that_was_kept_is_not_of_the_next_export)
{
	struct nbd *t = &self->t;
	int fd;

	SKIP_IF(return, self->reason);

	t->server.partitioned = true;
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_EQ(1, read_tag_once(t));
	fd = open_partition(t->w.name, 1, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
	close_ioctl(t);
	EXPECT_GE(0, read_tag(fd, 0));
	close(fd);

	server_stop(&t->server);
	ASSERT_EQ(0, server_start(&t->server, 2, false));
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_GT(0, open_partition(t->w.name, 1, O_RDONLY));
	EXPECT_EQ(2, read_tag_once(t));
}

TEST_F(nbd, partitions_go_while_the_disk_is_open)
{
	SKIP_IF(return, self->reason);

	check_partitions(_metadata, &self->t, variant->netlink, true);
}

TEST_F(nbd, clear_sock_ends_the_medium)
{
	struct nbd *t = &self->t;
	__u64 seq;
	int fd;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_EQ(0, watch_settle(&t->w));

	seq = watch_number(&t->w);
	fd = open_disk(t->w.name, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, watch_settle(&t->w));
	EXPECT_EQ(1, read_tag(fd, PAGE));
	ASSERT_EQ(0, ioctl(fd, NBD_CLEAR_SOCK));
	EXPECT_GE(0, read_tag(fd, PAGE));
	close(fd);
	close_ioctl(t);
	check_server_change(_metadata, t, seq);
}

TEST_F(nbd, a_server_that_is_gone_ends_the_medium)
{
	struct nbd *t = &self->t;
	__u64 seq;

	SKIP_IF(return, self->reason);
	if (variant->netlink)
		SKIP(return, "a link that is dead may be replaced");

	ASSERT_EQ(0, nbd_connect(t, false));
	EXPECT_EQ(0, watch_settle(&t->w));
	seq = watch_number(&t->w);
	server_stop(&t->server);
	join_ioctl(t);
	close_ioctl(t);
	check_server_change(_metadata, t, seq);
}

TEST_F(nbd, the_last_close_ends_the_medium_if_that_was_asked_for)
{
	struct nbd *t = &self->t;
	__u64 seq;
	int fd;

	SKIP_IF(return, self->reason);
	if (!variant->netlink)
		SKIP(return, "it can be asked for by netlink only");
	if (udev_is_running())
		SKIP(return, "udev opens and closes it, too");

	seq = watch_number(&t->w);
	t->client_flags = NBD_CFLAG_DISCONNECT_ON_CLOSE;
	ASSERT_EQ(0, nbd_connect(t, true));
	EXPECT_LT(seq, watch_number(&t->w));
	seq = watch_number(&t->w);
	fd = open_disk(t->w.name, O_RDONLY);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, read_tag(fd, PAGE));
	EXPECT_EQ(1, read_tag_once(t));
	EXPECT_EQ(seq, watch_number(&t->w));
	ASSERT_EQ(0, watch_settle(&t->w));

	close(fd);
	check_server_change(_metadata, t, seq);
	EXPECT_GE(0, read_tag_once(t));
}

/* What was read before is not served under the number of what follows. */
TEST_F(nbd, no_old_data_under_the_new_number)
{
	struct nbd *t = &self->t;
	__u64 seq, now = 0;
	char *map;
	int fd;

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	fd = open_disk(t->w.name, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, diskseq_ioctl(fd, &seq));
	map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
	ASSERT_NE(MAP_FAILED, (void *)map);
	EXPECT_EQ(1, __atomic_load_n((__u64 *)map, __ATOMIC_RELAXED));
	EXPECT_EQ(1, read_tag(fd, 2 * PAGE));

	/* the mapping keeps the device open */
	close(fd);
	ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
	close_ioctl(t);
	EXPECT_EQ(seq, watch_number(&t->w));
	EXPECT_EQ(1, __atomic_load_n((__u64 *)map, __ATOMIC_RELAXED));
	munmap(map, PAGE);
	EXPECT_LT(seq, watch_number(&t->w));

	server_stop(&t->server);
	ASSERT_EQ(0, server_start(&t->server, 2, false));
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	fd = open_disk(t->w.name, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, diskseq_ioctl(fd, &now));
	EXPECT_LT(seq, now);
	EXPECT_EQ(2, read_tag(fd, PAGE));
	EXPECT_EQ(2, read_tag(fd, 2 * PAGE));
	close(fd);
}

TEST_F(nbd, what_fails_leaves_number_and_events_alone)
{
	struct nbd *t = &self->t;
	struct server none = { .theirs = -1 };
	__u64 seq;
	int fd;

	SKIP_IF(return, self->reason);

	/* not connected */
	check_nothing(_metadata, &t->w, watch_number(&t->w), false);
	seq = watch_number(&t->w);
	fd = open_disk(t->w.name, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, ioctl(fd, NBD_CLEAR_SOCK));
	close(fd);
	check_nothing(_metadata, &t->w, seq, false);

	/* no socket, and something that is none */
	if (variant->netlink) {
		/* newer kernels have another error than -EBADF */
		EXPECT_GT(0, connect_netlink(t, &none, true));
		none.theirs = t->w.nl;
		EXPECT_EQ(-EINVAL, connect_netlink(t, &none, true));
	} else {
		ASSERT_EQ(0, setup_ioctl(t));
		EXPECT_EQ(-1, ioctl(t->fd, NBD_DO_IT));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, ioctl(t->fd, NBD_SET_SOCK, -1UL));
		close_ioctl(t);
	}
	check_nothing(_metadata, &t->w, seq, false);

	/* busy */
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_EQ(1, read_tag_once(t));
	ASSERT_EQ(0, watch_settle(&t->w));
	seq = watch_number(&t->w);
	EXPECT_EQ(-EBUSY, connect_netlink(t, &t->server, true));
	if (!variant->netlink) {
		EXPECT_EQ(-1, ioctl(t->fd, NBD_DO_IT));
		EXPECT_EQ(EBUSY, errno);
	}
	check_nothing(_metadata, &t->w, seq, false);
	EXPECT_EQ(1, read_tag_once(t));
}

TEST_HARNESS_MAIN
