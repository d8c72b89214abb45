/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A network block device, connected and disconnected by ioctl and by netlink, and
 * the fixture of its tests.
 */
#ifndef __DISKSEQ_NBD_H
#define __DISKSEQ_NBD_H

#include <pthread.h>
#include <linux/nbd.h>
#include <linux/nbd-netlink.h>

#include "diskseq.h"
#include "diskseq_genl.h"
#include "diskseq_nbd_server.h"
#include "diskseq_watch.h"

struct nbd {
	struct watch w;
	struct server server;
	int index;
	unsigned int timeout;	/* of requests, in seconds */
	unsigned int dead_link;	/* how long they wait for another link, in seconds */
	__u64 client_flags;
	int family;
	int genl;

	/* by ioctl */
	pthread_t thread;
	bool doing;
	int ret;		/* of NBD_DO_IT */
	int fd;
};

static inline int connect_netlink(struct nbd *t, const struct server *s, bool by_index)
{
	struct genl msg;

	genl_init(&msg, t->family, NBD_CMD_CONNECT);
	if (by_index)
		genl_put_u32(&msg, NBD_ATTR_INDEX, t->index);
	genl_put_u64(&msg, NBD_ATTR_SIZE_BYTES, EXPORT_SIZE);
	genl_put_u64(&msg, NBD_ATTR_BLOCK_SIZE_BYTES, SECTOR);
	genl_put_u64(&msg, NBD_ATTR_SERVER_FLAGS, NBD_FLAG_HAS_FLAGS);
	genl_put_u64(&msg, NBD_ATTR_CLIENT_FLAGS, t->client_flags);
	genl_put_u64(&msg, NBD_ATTR_TIMEOUT, t->timeout);
	if (t->dead_link)
		genl_put_u64(&msg, NBD_ATTR_DEAD_CONN_TIMEOUT, t->dead_link);
	genl_put_socket(&msg, s->theirs);
	return genl_talk(t->genl, &msg, NBD_ATTR_INDEX, &t->index,
			 sizeof(t->index));
}

static inline int disconnect_netlink(struct nbd *t)
{
	struct genl msg;

	genl_init(&msg, t->family, NBD_CMD_DISCONNECT);
	genl_put_u32(&msg, NBD_ATTR_INDEX, t->index);
	return genl_talk(t->genl, &msg, 0, NULL, 0);
}

static inline void reconfigure_init(struct nbd *t, struct genl *msg)
{
	genl_init(msg, t->family, NBD_CMD_RECONFIGURE);
	genl_put_u32(msg, NBD_ATTR_INDEX, t->index);
}

static inline int reconfigure(struct nbd *t, int sock)
{
	struct genl msg;

	reconfigure_init(t, &msg);
	genl_put_socket(&msg, sock);
	return genl_talk(t->genl, &msg, 0, NULL, 0);
}

static inline void *do_it(void *arg)
{
	struct nbd *t = arg;

	t->ret = ioctl(t->fd, NBD_DO_IT) ? -errno : 0;
	return NULL;
}

static inline int setup_ioctl(struct nbd *t)
{
	char path[128];

	t->fd = open_disk(t->w.name, O_RDWR);
	if (t->fd < 0)
		return t->fd;
	/* it is still open since the last server was disconnected */
	disk_path(path, t->w.name, "pid");
	if (!access(path, F_OK))
		return -EBUSY;
	if (ioctl(t->fd, NBD_SET_BLKSIZE, (unsigned long)SECTOR) ||
	    ioctl(t->fd, NBD_SET_SIZE, (unsigned long)EXPORT_SIZE) ||
	    ioctl(t->fd, NBD_SET_FLAGS, (unsigned long)NBD_FLAG_HAS_FLAGS) ||
	    ioctl(t->fd, NBD_SET_TIMEOUT, (unsigned long)t->timeout))
		return -errno;
	return 0;
}

/*
 * The driver has connected the server when it sends a plain change event, whatever
 * number that has.
 */
static inline int start_ioctl(struct nbd *t, const struct server *s)
{
	struct uevent ev;
	int ret;

	/* a change event that comes later is ours */
	ret = watch_fence(&t->w);
	if (ret)
		return ret;
	if (ioctl(t->fd, NBD_SET_SOCK, (unsigned long)s->theirs))
		return -errno;
	ret = -pthread_create(&t->thread, NULL, do_it, t);
	t->doing = !ret;
	if (ret)
		return ret;
	return watch_wait(&t->w, uevent_is_plain_change, PATIENCE_MS, &ev);
}

static inline int join_ioctl(struct nbd *t)
{
	int ret;

	if (!t->doing)
		return -EINVAL;
	t->doing = false;
	ret = join_in_time(t->thread);
	return ret ?: t->ret;
}

static inline void close_ioctl(struct nbd *t)
{
	if (t->doing) {
		ioctl(t->fd, NBD_CLEAR_SOCK);
		join_ioctl(t);
	}
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

/*
 * Not repeated if that is busy: an earlier disconnect must have left the device
 * so that it can be connected at once.
 */
static inline int nbd_connect(struct nbd *t, bool netlink)
{
	int ret;

	if (netlink)
		return connect_netlink(t, &t->server, true);
	ret = setup_ioctl(t);
	if (!ret)
		ret = start_ioctl(t, &t->server);
	if (ret)
		close_ioctl(t);
	return ret;
}

/* For tests that have the device open in a thread without pause */
static inline int nbd_connect_when_free(struct nbd *t, bool netlink)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	/* EINVAL: v6.12 does not wait for a device that is being destroyed */
	while (((ret = nbd_connect(t, netlink)) == -EBUSY || ret == -EINVAL) &&
	       now_ms() < deadline)
		nap();
	return ret;
}

static inline int nbd_disconnect(struct nbd *t, bool netlink)
{
	if (netlink)
		return disconnect_netlink(t);
	if (ioctl(t->fd, NBD_DISCONNECT))
		return -errno;
	return join_ioctl(t);
}

/* The test that was to disconnect it has ended. */
static inline void nbd_remove(const char *name)
{
	int fd = open_disk(name, O_RDWR);

	if (fd < 0)
		return;
	ioctl(fd, NBD_DISCONNECT);
	ioctl(fd, NBD_CLEAR_SOCK);
	close(fd);
}

/*
 * When the harness kills the case that has begun and has not been torn down. If it
 * was killed, the driver hangs, and each following case would hang, too.
 */
static long long *nbd_ends;

static __attribute__((constructor)) void nbd_init(void)
{
	nbd_ends = shared_memory(sizeof(*nbd_ends));
}

/*
 * The timeouts of the cases are meant for slow machines and debug kernels. With
 * DISKSEQ_PATIENCE many cases are expected to fail, and some to hang: their timeouts
 * are reduced to a quarter, but not below what a few failing waits take. Long runs
 * (DISKSEQ_CYCLES) keep theirs.
 */
static inline void nbd_limit_cases(void)
{
	int least = 4 * PATIENCE_MS / 1000;
	struct __fixture_metadata *f;
	struct __test_metadata *t;

	if (!getenv("DISKSEQ_PATIENCE") || getenv("DISKSEQ_CYCLES"))
		return;
	for (f = __fixture_list; f; f = f->next)
		for (t = f->tests; t; t = t->next)
			if (t->timeout > least)
				t->timeout = t->timeout / 4 > least ?
					     t->timeout / 4 : least;
}

/* The harness has no hook that main() calls before the first case. */
#define test_harness_run(...) (nbd_limit_cases(), test_harness_run(__VA_ARGS__))

/* Why there is no nbd, or NULL; @timeout of the case, in seconds */
static inline const char *nbd_probe(struct nbd *t, int timeout)
{
	memset(t, 0, sizeof(*t));
	t->fd = -1;
	t->w.nl = -1;
	t->genl = -1;
	t->index = -1;
	if (*nbd_ends && now_ms() >= *nbd_ends)
		return "the driver hangs since an earlier case";
	/* a second less: the harness began to count before */
	*nbd_ends = now_ms() + 1000 * (timeout - 1);
	if (geteuid())
		return "needs root";
	t->genl = genl_open();
	if (t->genl < 0)
		return "needs generic netlink";
	t->family = nbd_family(t->genl);
	if (t->family < 0) {
		load_module("nbd", "nbds_max=0");
		t->family = nbd_family(t->genl);
	}
	return t->family < 0 ? "needs the nbd driver" : NULL;
}

/*
 * A server was connected or disconnected: what has happened since the last look is
 * a change of the medium, which had the number @old. Returns the new number.
 */
static inline __u64 check_server_change(struct __test_metadata *_metadata,
					struct nbd *t, __u64 old)
{
	__u64 seq = check_change(_metadata, &t->w, old, 1, ANY_PARTITIONS);

	/* that open may have scanned for partitions, which is another event */
	EXPECT_EQ(0, watch_settle(&t->w));
	return seq;
}

/* The tag that can be read, or a negative errno. 0: there is nothing. */
static inline long long read_tag(int fd, off_t offset)
{
	__u64 tag;
	ssize_t len;

	len = pread(fd, &tag, sizeof(tag), offset);
	if (len < 0)
		return -errno;
	return len == sizeof(tag) ? (long long)tag : 0;
}

static inline long long read_tag_once(struct nbd *t)
{
	int fd = open_disk(t->w.name, O_RDONLY);
	long long tag;

	if (fd < 0)
		return fd;
	tag = read_tag(fd, PAGE);
	close(fd);
	return tag;
}

FIXTURE(nbd)
{
	const char *reason;
	struct nbd t;
};

FIXTURE_VARIANT(nbd)
{
	bool netlink;
};

FIXTURE_VARIANT_ADD(nbd, by_ioctl)
{
	.netlink = false,
};

FIXTURE_VARIANT_ADD(nbd, by_netlink)
{
	.netlink = true,
};

FIXTURE_SETUP(nbd)
{
	struct nbd *t = &self->t;
	int fd;

	self->reason = nbd_probe(t, _metadata->timeout);
	if (self->reason)
		return;
	ASSERT_EQ(0, server_start(&t->server, 1, false));
	/* The driver finds a device that is free, or makes one. */
	ASSERT_EQ(0, connect_netlink(t, &t->server, false));
	snprintf(t->w.name, sizeof(t->w.name), "nbd%d", t->index);
	ASSERT_EQ(0, leftover_expect(t->w.name, nbd_remove));
	ASSERT_EQ(0, disconnect_netlink(t));
	server_stop(&t->server);

	fd = open_disk(t->w.name, O_RDONLY);
	ASSERT_LE(0, fd);
	if (!has_diskseq(t->w.name, fd))
		self->reason = "kernel has no disk sequence numbers";
	close(fd);
	if (self->reason)
		return;
	t->w.nl = uevent_open();
	ASSERT_LE(0, t->w.nl);
	ASSERT_EQ(0, server_start(&t->server, 1, false));
}

FIXTURE_TEARDOWN(nbd)
{
	struct nbd *t = &self->t;

	if (!self->reason)
		*nbd_ends = 0;
	close_ioctl(t);
	if (!self->reason)
		disconnect_netlink(t);
	leftover_gone(t->w.name);
	server_stop(&t->server);
	if (t->genl >= 0)
		close(t->genl);
	watch_close(&t->w);
}

#endif /* __DISKSEQ_NBD_H */
