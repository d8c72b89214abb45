// SPDX-License-Identifier: GPL-2.0
/*
 * A network block device gets a new sequence number when a server is connected
 * and when its last opener has gone after a disconnect, by ioctl and by netlink,
 * and reports both in uevents. Another link to the same server is no new medium.
 * The servers are threads of the test at the other end of a socketpair.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/nbd.h>
#include <linux/nbd-netlink.h>

#include "diskseq_watch.h"

#define EXPORT_SIZE	(1024 * 1024)
#define SECTOR		512
#define NR_PARTITIONS	2
#define PAGE		4096

/* The server: every 8 bytes of an export are its tag. */

enum nonsense {
	SENSE,
	WRONG_MAGIC,
	UNKNOWN_REQUEST,
	EARLIER_REQUEST,	/* that had the same tag */
	NONSENSE_END,
};

struct server {
	pthread_t thread;
	__u64 tag;
	bool partitioned;
	bool running;
	int ours;		/* its end of the link */
	int theirs;		/* the driver's */
	int mute;		/* takes requests and does not answer */
	unsigned int ignored;	/* how many */
	enum nonsense nonsense;	/* what it answers */
};

static bool transfer(int fd, void *buf, size_t len, bool out)
{
	while (len) {
		ssize_t ret;

		ret = out ? send(fd, buf, len, MSG_NOSIGNAL) :
			    recv(fd, buf, len, 0);
		if (ret <= 0)
			return false;
		buf += ret;
		len -= ret;
	}
	return true;
}

static void server_fill(const struct server *s, char *buf, __u64 from, __u32 len)
{
	static const unsigned char table[2][16] = {
		{ 0, 0, 0, 0, 0x83, 0, 0, 0, 64, 0, 0, 0, 64, 0, 0, 0 },
		{ 0, 0, 0, 0, 0x83, 0, 0, 0, 128, 0, 0, 0, 64, 0, 0, 0 },
	};
	__u32 i;

	for (i = 0; i < len; i += sizeof(s->tag))
		memcpy(buf + i, &s->tag, sizeof(s->tag));
	if (s->partitioned && !from && len >= 512) {
		memcpy(buf + 446, table, sizeof(table));
		memcpy(buf + 510, "\x55\xaa", 2);
	}
}

/* A handle is the tag of the request, and how often that was used before. */
static void talk_nonsense(struct nbd_reply *reply, enum nonsense nonsense)
{
	__u64 handle;

	memcpy(&handle, reply->handle, sizeof(handle));
	switch (nonsense) {
	case WRONG_MAGIC:
		reply->magic = ~reply->magic;
		break;
	case UNKNOWN_REQUEST:
		handle |= 0xffffffff;
		break;
	case EARLIER_REQUEST:
		handle -= 1ULL << 32;
		break;
	default:
		break;
	}
	memcpy(reply->handle, &handle, sizeof(handle));
}

static void *server_run(void *arg)
{
	static __thread char buf[EXPORT_SIZE];
	struct server *s = arg;
	struct nbd_request req;

	while (transfer(s->ours, &req, sizeof(req), false)) {
		struct nbd_reply reply = { .magic = htobe32(NBD_REPLY_MAGIC) };
		__u32 type = be32toh(req.type) & 0xffff;
		__u32 len = be32toh(req.len);

		if (type == NBD_CMD_DISC)
			break;
		if (type == NBD_CMD_WRITE && !transfer(s->ours, buf, len, false))
			break;
		if (__atomic_load_n(&s->mute, __ATOMIC_RELAXED)) {
			__atomic_add_fetch(&s->ignored, 1, __ATOMIC_RELAXED);
			continue;
		}
		memcpy(reply.handle, req.handle, sizeof(reply.handle));
		talk_nonsense(&reply, __atomic_load_n(&s->nonsense, __ATOMIC_RELAXED));
		if (!transfer(s->ours, &reply, sizeof(reply), true))
			break;
		if (type != NBD_CMD_READ)
			continue;
		server_fill(s, buf, be64toh(req.from), len);
		if (!transfer(s->ours, buf, len, true))
			break;
	}
	shutdown(s->ours, SHUT_RDWR);
	return NULL;
}

static int server_start(struct server *s, __u64 tag, bool partitioned)
{
	int ends[2], ret;

	memset(s, 0, sizeof(*s));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	s->tag = tag;
	s->partitioned = partitioned;
	s->ours = ends[0];
	s->theirs = ends[1];
	ret = pthread_create(&s->thread, NULL, server_run, s);
	s->running = !ret;
	return -ret;
}

/* Ends the link if that has not happened yet. */
static void server_stop(struct server *s)
{
	if (!s->running)
		return;
	shutdown(s->ours, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->ours);
	close(s->theirs);
	s->running = false;
}

/* Generic netlink, as little as is needed */

struct genl {
	struct nlmsghdr nlh;
	struct genlmsghdr genlh;
	char attrs[512];
};

static void genl_init(struct genl *msg, __u16 family, __u8 cmd)
{
	memset(msg, 0, sizeof(*msg));
	msg->nlh.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	msg->nlh.nlmsg_type = family;
	msg->nlh.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	msg->genlh.cmd = cmd;
	msg->genlh.version = 1;
}

static struct nlattr *genl_put(struct genl *msg, __u16 type, const void *data,
			       size_t len)
{
	struct nlattr *attr = (void *)msg + msg->nlh.nlmsg_len;

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + len;
	if (len)
		memcpy((void *)attr + NLA_HDRLEN, data, len);
	msg->nlh.nlmsg_len += NLA_ALIGN(attr->nla_len);
	return attr;
}

static void genl_put_u32(struct genl *msg, __u16 type, __u32 val)
{
	genl_put(msg, type, &val, sizeof(val));
}

static void genl_put_u64(struct genl *msg, __u16 type, __u64 val)
{
	genl_put(msg, type, &val, sizeof(val));
}

static void genl_put_socket(struct genl *msg, int fd)
{
	struct nlattr *list, *item;
	void *end;

	list = genl_put(msg, NBD_ATTR_SOCKETS, NULL, 0);
	item = genl_put(msg, NBD_SOCK_ITEM, NULL, 0);
	genl_put_u32(msg, NBD_SOCK_FD, fd);
	end = (void *)msg + msg->nlh.nlmsg_len;
	item->nla_len = end - (void *)item;
	list->nla_len = end - (void *)list;
}

static const struct nlattr *attr_find(const void *from, int left, __u16 type)
{
	const struct nlattr *attr = from;

	while (left >= NLA_HDRLEN && attr->nla_len >= NLA_HDRLEN) {
		if ((attr->nla_type & NLA_TYPE_MASK) == type)
			return attr;
		left -= NLA_ALIGN(attr->nla_len);
		attr = (void *)attr + NLA_ALIGN(attr->nla_len);
	}
	return NULL;
}

/* If @want is an attribute of the answer, that goes to @val. */
static int genl_talk(int fd, struct genl *msg, __u16 want, void *val, size_t len)
{
	struct nlmsghdr answer[256];

	if (send(fd, msg, msg->nlh.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		struct nlmsghdr *nlh = answer;
		const struct nlattr *attr;
		ssize_t left;

		left = recv(fd, answer, sizeof(answer), 0);
		if (left < 0)
			return -errno;
		for (; NLMSG_OK(nlh, left); nlh = NLMSG_NEXT(nlh, left)) {
			if (nlh->nlmsg_type == NLMSG_ERROR)
				return *(int *)NLMSG_DATA(nlh);
			attr = attr_find(NLMSG_DATA(nlh) + GENL_HDRLEN,
					 (int)nlh->nlmsg_len - NLMSG_LENGTH(GENL_HDRLEN),
					 want);
			if (attr)
				memcpy(val, (void *)attr + NLA_HDRLEN, len);
		}
	}
}

static int genl_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);

	return fd < 0 ? -errno : fd;
}

/* What the kernel says of nbd's family: its attribute @want goes to @val. */
static int ask_for_family(int fd, __u16 want, void *val, size_t len)
{
	struct genl msg;

	genl_init(&msg, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	genl_put(&msg, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME,
		 sizeof(NBD_GENL_FAMILY_NAME));
	return genl_talk(fd, &msg, want, val, len);
}

static int nbd_family(int fd)
{
	__u16 family = 0;
	int ret = ask_for_family(fd, CTRL_ATTR_FAMILY_ID, &family, sizeof(family));

	return ret ? ret : family;
}

/* A socket that hears of each link of nbd that is lost */
static int nbd_listen(void)
{
	struct {
		struct nlattr group;
		char attrs[64];
	} groups = { 0 };
	const struct nlattr *attr;
	int fd, id, ret;

	fd = genl_open();
	if (fd < 0)
		return fd;
	/* it has one */
	ret = ask_for_family(fd, CTRL_ATTR_MCAST_GROUPS, &groups, sizeof(groups));
	attr = attr_find(groups.attrs, sizeof(groups.attrs), CTRL_ATTR_MCAST_GRP_ID);
	if (!ret && attr) {
		memcpy(&id, (void *)attr + NLA_HDRLEN, sizeof(id));
		if (!setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &id, sizeof(id)))
			return fd;
		ret = -errno;
	}
	close(fd);
	return ret ? ret : -ENOENT;
}

static int wait_for_lost_link(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct genl msg;

	do {
		if (poll(&pfd, 1, PATIENCE_MS) <= 0)
			return -ETIMEDOUT;
		if (recv(fd, &msg, sizeof(msg), 0) < 0)
			return -errno;
	} while (msg.genlh.cmd != NBD_CMD_LINK_DEAD);
	return 0;
}

/* The device under test */

struct nbd {
	struct watch w;
	struct server server;
	int index;
	unsigned int timeout;	/* of requests, in seconds */
	__u64 client_flags;
	int family;
	int genl;

	/* by ioctl */
	pthread_t thread;
	bool doing;
	int ret;		/* of NBD_DO_IT */
	int fd;
};

static int connect_netlink(struct nbd *t, const struct server *s, bool by_index)
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
	genl_put_socket(&msg, s->theirs);
	return genl_talk(t->genl, &msg, NBD_ATTR_INDEX, &t->index,
			 sizeof(t->index));
}

static int disconnect_netlink(struct nbd *t)
{
	struct genl msg;

	genl_init(&msg, t->family, NBD_CMD_DISCONNECT);
	genl_put_u32(&msg, NBD_ATTR_INDEX, t->index);
	return genl_talk(t->genl, &msg, 0, NULL, 0);
}

static int reconfigure(struct nbd *t, int sock)
{
	struct genl msg;

	genl_init(&msg, t->family, NBD_CMD_RECONFIGURE);
	genl_put_u32(&msg, NBD_ATTR_INDEX, t->index);
	genl_put_socket(&msg, sock);
	return genl_talk(t->genl, &msg, 0, NULL, 0);
}

static void *do_it(void *arg)
{
	struct nbd *t = arg;

	t->ret = ioctl(t->fd, NBD_DO_IT) ? -errno : 0;
	return NULL;
}

/*
 * The driver has connected or left a server when it sends a plain change event,
 * which has another number than those before.
 */
static int wait_for_change(struct nbd *t, __u64 old)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct uevent ev;
	int ret;

	for (;;) {
		ret = uevent_read(t->w.nl, &ev, deadline - now_ms());
		if (ret <= 0)
			return ret ? ret : -ETIMEDOUT;
		ret = uevent_append(&t->w.log, &ev);
		if (ret)
			return ret;
		if (uevent_is_own(&ev, t->w.name) && !ev.partition &&
		    uevent_is_plain_change(&ev) && ev.diskseq >= old)
			return 0;
	}
}

static int setup_ioctl(struct nbd *t)
{
	char path[96];

	t->fd = open_disk(t->w.name, O_RDWR);
	if (t->fd < 0)
		return t->fd;
	/* somebody still has it open since the last server was left */
	snprintf(path, sizeof(path), "/sys/block/%s/pid", t->w.name);
	if (!access(path, F_OK))
		return -EBUSY;
	if (ioctl(t->fd, NBD_SET_BLKSIZE, (unsigned long)SECTOR) ||
	    ioctl(t->fd, NBD_SET_SIZE, (unsigned long)EXPORT_SIZE) ||
	    ioctl(t->fd, NBD_SET_FLAGS, (unsigned long)NBD_FLAG_HAS_FLAGS) ||
	    ioctl(t->fd, NBD_SET_TIMEOUT, (unsigned long)t->timeout))
		return -errno;
	return 0;
}

static int start_ioctl(struct nbd *t, const struct server *s)
{
	int ret;

	/* a change event that comes later is ours, whatever its number is */
	ret = uevent_fence(t->w.nl, t->w.name, &t->w.log);
	if (ret)
		return ret;
	if (ioctl(t->fd, NBD_SET_SOCK, (unsigned long)s->theirs))
		return -errno;
	ret = -pthread_create(&t->thread, NULL, do_it, t);
	t->doing = !ret;
	return ret ? ret : wait_for_change(t, 0);
}

static int join_ioctl(struct nbd *t)
{
	if (!t->doing)
		return -EINVAL;
	pthread_join(t->thread, NULL);
	t->doing = false;
	return t->ret;
}

static void close_ioctl(struct nbd *t)
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
static int nbd_connect(struct nbd *t, bool netlink)
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
static int nbd_connect_when_free(struct nbd *t, bool netlink)
{
	long long deadline = now_ms() + PATIENCE_MS;
	int ret;

	while ((ret = nbd_connect(t, netlink)) == -EBUSY && now_ms() < deadline)
		nap();
	return ret;
}

static int nbd_disconnect(struct nbd *t, bool netlink)
{
	if (netlink)
		return disconnect_netlink(t);
	if (ioctl(t->fd, NBD_DISCONNECT))
		return -errno;
	return join_ioctl(t);
}

/* Whoever was to disconnect it is no more. */
static void nbd_remove(const char *name)
{
	int fd = open_disk(name, O_RDWR);

	if (fd < 0)
		return;
	ioctl(fd, NBD_DISCONNECT);
	ioctl(fd, NBD_CLEAR_SOCK);
	close(fd);
}

/* Why there is no nbd, or NULL */
#define HANG_MS		80000	/* longer than any case takes that ends */

static const char *nbd_probe(struct nbd *t)
{
	memset(t, 0, sizeof(*t));
	t->fd = -1;
	t->w.nl = -1;
	t->genl = -1;
	t->index = -1;
	/* a case that was killed for time: each that follows would wait, too */
	if (shared->began && now_ms() - shared->began > HANG_MS)
		return "the driver hangs since an earlier case";
	shared->began = now_ms();
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
 * A server was connected or left: what has happened since the last look is a
 * change of the medium, which had the number @old. Returns the new number.
 */
static __u64 check_server_change(struct __test_metadata *_metadata,
				 struct nbd *t, __u64 old)
{
	__u64 seq = check_change(_metadata, &t->w, old, 1);

	/* that open may have scanned for partitions, which is another event */
	EXPECT_EQ(0, watch_settle(&t->w));
	return seq;
}

/* The tag that can be read, or a negative errno. 0: there is nothing. */
static long long read_tag(int fd, off_t offset)
{
	__u64 tag;
	ssize_t len;

	len = pread(fd, &tag, sizeof(tag), offset);
	if (len < 0)
		return -errno;
	return len == sizeof(tag) ? (long long)tag : 0;
}

static long long read_tag_once(struct nbd *t)
{
	int fd = open_disk(t->w.name, O_RDONLY);
	long long tag;

	if (fd < 0)
		return fd;
	tag = read_tag(fd, PAGE);
	close(fd);
	return tag;
}

static bool wait_until(const unsigned int *counter, unsigned int value)
{
	long long deadline = now_ms() + PATIENCE_MS;

	while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < value) {
		if (now_ms() > deadline)
			return false;
		nap();
	}
	return true;
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

	self->reason = nbd_probe(t);
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
		shared->began = 0;
	close_ioctl(t);
	if (!self->reason)
		disconnect_netlink(t);
	leftover_gone(t->w.name);
	server_stop(&t->server);
	if (t->genl >= 0)
		close(t->genl);
	if (t->w.nl >= 0)
		close(t->w.nl);
	free(t->w.log.ev);
}

TEST_F(nbd, connect_and_disconnect_are_announced)
{
	struct nbd *t = &self->t;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

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

struct looker {
	struct nbd *t;
	int fd;
	unsigned int looks;
	unsigned int wrong;
	bool stop;
};

/* Each number has one size: that of the export, or none. */
static void *looker_run(void *arg)
{
	struct looker *l = arg;
	__u64 first, again, size, of = 0, had = 0;

	while (!__atomic_load_n(&l->stop, __ATOMIC_RELAXED)) {
		if (diskseq_ioctl(l->fd, &first) ||
		    ioctl(l->fd, BLKGETSIZE64, &size) ||
		    diskseq_ioctl(l->fd, &again) || first != again)
			continue;
		if (of == first && had != size)
			l->wrong++;
		of = first;
		had = size;
		__atomic_add_fetch(&l->looks, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

#define MAX_SIZES	40

TEST_F(nbd, a_number_has_one_size)
{
	int rounds = test_rounds(MAX_SIZES), i;
	struct nbd *t = &self->t;
	struct looker l = { .t = t };
	pthread_t thread;

	if (self->reason)
		SKIP(return, "%s", self->reason);
	if (variant->netlink)
		SKIP(return, "what is open cannot be connected by netlink");

	server_stop(&t->server);
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, server_start(&t->server, 1, false));
		l.stop = false;
		l.looks = 0;
		l.fd = open_disk(t->w.name, O_RDONLY);
		ASSERT_LE(0, l.fd);
		ASSERT_EQ(0, pthread_create(&thread, NULL, looker_run, &l));
		EXPECT_TRUE(wait_until(&l.looks, 1));
		ASSERT_EQ(0, nbd_connect(t, false));
		ASSERT_EQ(0, nbd_disconnect(t, false));
		ASSERT_EQ(0, ioctl(t->fd, NBD_CLEAR_SOCK));
		__atomic_store_n(&l.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
		close(l.fd);
		close_ioctl(t);
		server_stop(&t->server);
	}
	EXPECT_EQ(0, l.wrong) {
		TH_LOG("%u looks at another size", l.wrong);
	}
}

/* An opener keeps the number until it closes: it can read one export only. */
TEST_F(nbd, an_opener_keeps_the_number_of_its_export)
{
	struct nbd *t = &self->t;
	__u64 seq, now = 0;
	long long tag;
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
	unsigned int adds = 0, removes = 0;
	__u64 seq;
	int fd = -1;
	size_t i;

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

	ASSERT_EQ(0, uevent_fence(t->w.nl, t->w.name, &t->w.log));
	for (i = t->w.mark; i < t->w.log.nr; i++) {
		const struct uevent *ev = &t->w.log.ev[i];

		if (!uevent_is_own(ev, t->w.name) || !ev->partition)
			continue;
		EXPECT_LE(seq, ev->diskseq);
		if (uevent_is_add(ev))
			EXPECT_EQ(seq, ev->diskseq);
		adds += uevent_is_add(ev);
		removes += uevent_is_remove(ev);
	}
	/* udev may hold one open, so that none is dropped */
	if (udev_is_running())
		return;
	EXPECT_EQ(NR_PARTITIONS, adds);
	EXPECT_EQ(NR_PARTITIONS, removes);
}

TEST_F(nbd, partitions_have_the_number_of_their_export)
{
	if (self->reason)
		SKIP(return, "%s", self->reason);

	check_partitions(_metadata, &self->t, variant->netlink, false);
}

/* One that is open keeps all, but not for longer than it is. */
TEST_F(nbd, partition_that_was_kept_is_not_of_the_next_export)
{
	struct nbd *t = &self->t;
	char part[48];
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	snprintf(part, sizeof(part), "%.16s/%.16sp1", t->w.name, t->w.name);
	t->server.partitioned = true;
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_EQ(1, read_tag_once(t));
	fd = open_disk(part, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
	close_ioctl(t);
	EXPECT_GE(0, read_tag(fd, 0));
	close(fd);

	server_stop(&t->server);
	ASSERT_EQ(0, server_start(&t->server, 2, false));
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_GT(0, open_disk(part, O_RDONLY));
	EXPECT_EQ(2, read_tag_once(t));
}

TEST_F(nbd, partitions_go_while_the_disk_is_open)
{
	if (self->reason)
		SKIP(return, "%s", self->reason);

	check_partitions(_metadata, &self->t, variant->netlink, true);
}

TEST_F(nbd, clear_sock_ends_the_medium)
{
	struct nbd *t = &self->t;
	__u64 seq;
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

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

	if (self->reason)
		SKIP(return, "%s", self->reason);
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

	if (self->reason)
		SKIP(return, "%s", self->reason);
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

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

	if (self->reason)
		SKIP(return, "%s", self->reason);

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
		EXPECT_EQ(-EBADF, connect_netlink(t, &none, true));
		none.theirs = t->w.nl;
		EXPECT_EQ(-EINVAL, connect_netlink(t, &none, true));
	} else {
		ASSERT_EQ(0, setup_ioctl(t));
		EXPECT_EQ(-1, ioctl(t->fd, NBD_DO_IT));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, ioctl(t->fd, NBD_SET_SOCK, -1UL));
		EXPECT_EQ(EBADF, errno);
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

TEST_F(nbd, another_link_to_the_server_is_no_new_medium)
{
	struct nbd *t = &self->t;
	struct server second;
	int fd, lost;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);
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
	 * A link that is lost.  Whoever receives from it must have noticed, or
	 * he may take the next link for it, and end that.
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

	if (self->reason)
		SKIP(return, "%s", self->reason);
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

static void *open_once(void *arg)
{
	int fd = open_disk(arg, O_RDONLY);

	if (fd >= 0)
		close(fd);
	return NULL;
}

/* Leaving a server waits for openers, but not for those who wait for it. */
TEST_F(nbd, a_server_that_is_mute_can_be_left)
{
	long long deadline = now_ms() + PATIENCE_MS;
	struct nbd *t = &self->t;
	long long begin;
	pthread_t opener;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	seq = watch_number(&t->w);
	ASSERT_NE(0, seq);
	t->server.mute = true;
	/* it would go on then */
	t->timeout = 10;
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_LT(seq, watch_number(&t->w));
	seq = watch_number(&t->w);
	ASSERT_EQ(0, pthread_create(&opener, NULL, open_once, t->w.name));
	while (!__atomic_load_n(&t->server.ignored, __ATOMIC_RELAXED)) {
		ASSERT_LT(now_ms(), deadline);
		nap();
	}
	begin = now_ms();
	ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
	ASSERT_EQ(0, pthread_join(opener, NULL));
	EXPECT_GT(1000 * t->timeout, now_ms() - begin);
	close_ioctl(t);
	EXPECT_LT(seq, watch_number(&t->w));
}

/* A reader gets an error, not what was not sent, and another server may follow. */
TEST_F_TIMEOUT(nbd, a_server_that_talks_nonsense_can_be_left, 120)
{
	struct nbd *t = &self->t;
	enum nonsense nonsense;
	void *buf = NULL;
	__u64 seq;
	int fd;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_NE(0, watch_number(&t->w));
	ASSERT_EQ(0, posix_memalign(&buf, PAGE, PAGE));
	/* who is connected by netlink waits for another link, but not for ever */
	t->timeout = 4;
	for (nonsense = WRONG_MAGIC; nonsense < NONSENSE_END; nonsense++) {
		ASSERT_EQ(0, nbd_connect(t, variant->netlink));
		seq = watch_number(&t->w);
		fd = open_disk(t->w.name, O_RDONLY | O_DIRECT);
		ASSERT_LE(0, fd);
		ASSERT_EQ(PAGE, pread(fd, buf, PAGE, PAGE));
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
		EXPECT_LT(seq, watch_number(&t->w));
		server_stop(&t->server);
		ASSERT_EQ(0, server_start(&t->server, 1 + nonsense, false));
	}
	t->timeout = 0;
	ASSERT_EQ(0, nbd_connect(t, variant->netlink));
	EXPECT_EQ(NONSENSE_END, read_tag_once(t));
	free(buf);
}

/* Readers while servers come and go */

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

	for (round = 0; !__atomic_load_n(&r->stop, __ATOMIC_RELAXED); round++) {
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
			__atomic_add_fetch(&r->reads, 1, __ATOMIC_RELAXED);
			if (r->nr && r->log[r->nr - 1].seq == reading.seq &&
			    r->log[r->nr - 1].tag == reading.tag)
				continue;
			if (r->nr < r->room)
				r->log[r->nr++] = reading;
		}
		close(fd);
		/* a server can be connected while nobody has it open */
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_NE(0, watch_number(&t->w));
	r.log = calloc(r.room, sizeof(*r.log));
	ASSERT_NE(NULL, r.log);
	server_stop(&t->server);
	ASSERT_EQ(0, pthread_create(&thread, NULL, reader_run, &r));
	for (i = 0; i < rounds; i++) {
		long long deadline = now_ms() + PATIENCE_MS;
		unsigned int reads;

		ASSERT_EQ(0, server_start(&t->server, i + 1, i % 2));
		ASSERT_EQ(0, nbd_connect_when_free(t, variant->netlink));
		seq[i] = watch_number(&t->w);
		reads = __atomic_load_n(&r.reads, __ATOMIC_RELAXED);
		while (__atomic_load_n(&r.reads, __ATOMIC_RELAXED) < reads + 4) {
			ASSERT_LT(now_ms(), deadline);
			nap();
		}
		ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
		close_ioctl(t);
		server_stop(&t->server);
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
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

	while (!__atomic_load_n(&v->stop, __ATOMIC_RELAXED)) {
		open_once((void *)v->name);
		__atomic_add_fetch(&v->visits, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Opened and closed without pause, at every moment of a connect */
TEST_F_TIMEOUT(nbd, a_connect_stands_those_who_open_and_close, 120)
{
	int rounds = test_rounds(MAX_ROUNDS), i;
	struct nbd *t = &self->t;
	struct visitor v = { .name = t->w.name };
	long long deadline;
	struct news news;
	pthread_t thread;
	__u64 first, seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	ASSERT_EQ(0, watch_settle(&t->w));
	first = watch_number(&t->w);
	ASSERT_NE(0, first);
	seq = first;
	server_stop(&t->server);
	ASSERT_EQ(0, pthread_create(&thread, NULL, visitor_run, &v));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, server_start(&t->server, i + 1, false));
		ASSERT_EQ(0, nbd_connect_when_free(t, variant->netlink));
		EXPECT_LT(seq, watch_number(&t->w));
		seq = watch_number(&t->w);
		ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
		close_ioctl(t);
		/* the visitor may be the last to close it */
		deadline = now_ms() + PATIENCE_MS;
		while (watch_number(&t->w) == seq && now_ms() < deadline)
			nap();
		EXPECT_LT(seq, watch_number(&t->w));
		seq = watch_number(&t->w);
		server_stop(&t->server);
	}
	__atomic_store_n(&v.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LE(rounds, v.visits);
	ASSERT_EQ(0, watch_hear(&t->w, &news));
	EXPECT_EQ(2 * rounds, news.media);
	EXPECT_EQ(0, news.decreases);
	EXPECT_EQ(seq, news.last);
	EXPECT_EQ(0, uevent_unaccounted(t->w.nl, &t->w.log, first, seq));
}

/* Requests in flight when a server is left from two sides at once */

#define NR_REQUESTS	16
#define MAX_LEAVINGS	50

struct requests {
	int fd;
	unsigned int issued;
	unsigned int done;
};

/* Reads until that fails: from the server, not from the page cache. */
static void *request_run(void *arg)
{
	struct requests *r = arg;
	off_t page = __atomic_add_fetch(&r->issued, 1, __ATOMIC_RELAXED);
	void *buf = NULL;

	if (!posix_memalign(&buf, PAGE, PAGE))
		while (pread(r->fd, buf, PAGE, page * PAGE) == PAGE)
			;
	free(buf);
	__atomic_add_fetch(&r->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void *clear_sock(void *arg)
{
	struct requests *r = arg;

	ioctl(r->fd, NBD_CLEAR_SOCK);
	return NULL;
}

static void leave_with_requests(struct __test_metadata *_metadata,
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
	ASSERT_TRUE(wait_until(mute ? &t->server.ignored : &r.issued,
			       NR_REQUESTS));

	if (two)
		ASSERT_EQ(0, pthread_create(&other, NULL, clear_sock, &r));
	if (netlink)
		disconnect_netlink(t);
	else
		server_stop(&t->server);
	done = wait_until(&r.done, NR_REQUESTS);
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

	if (self->reason)
		SKIP(return, "%s", self->reason);

	server_stop(&t->server);
	leave_with_requests(_metadata, t, variant->netlink, true, false);
}

/* Where that is not so the kernel warns of a count that underflows, or hangs. */
TEST_F_TIMEOUT(nbd, requests_complete_once_when_two_clear_the_queue, 90)
{
	int rounds = test_rounds(MAX_LEAVINGS), i;
	struct nbd *t = &self->t;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	server_stop(&t->server);
	seq = watch_number(&t->w);
	for (i = 0; i < rounds; i++) {
		leave_with_requests(_metadata, t, variant->netlink, i % 2, true);
		EXPECT_LT(seq, watch_number(&t->w));
		seq = watch_number(&t->w);
	}
}

/* A program that opens the disk at each event and holds it, as udev does */

struct opener {
	const char *name;
	pthread_t thread;
	int nl;
	__u64 seen;		/* SEQNUM of the last event, and it is closed */
	unsigned int visits;
	bool stop;
};

static void visit(const char *name, unsigned int n)
{
	char buf[PAGE];
	int fd;

	fd = open_disk(name, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return;
	flock(fd, LOCK_SH | LOCK_NB);
	if (pread(fd, buf, sizeof(buf), 0) < 0)
		n++;
	/* 2 to 15 ms, which is what the program does with what it has read */
	usleep(2000 + n * 1000 % 14000);
	close(fd);
}

static void *opener_run(void *arg)
{
	struct opener *o = arg;
	struct uevent ev;

	while (!__atomic_load_n(&o->stop, __ATOMIC_RELAXED)) {
		if (uevent_read(o->nl, &ev, 20) <= 0)
			continue;
		if (uevent_is_own(&ev, o->name) && !*ev.uuid)
			visit(o->name, o->visits++);
		__atomic_store_n(&o->seen, ev.seqnum, __ATOMIC_RELEASE);
	}
	return NULL;
}

static int opener_start(struct opener *o, const char *name)
{
	memset(o, 0, sizeof(*o));
	o->name = name;
	o->nl = uevent_open();
	if (o->nl < 0)
		return o->nl;
	return -pthread_create(&o->thread, NULL, opener_run, o);
}

static void opener_stop(struct opener *o)
{
	__atomic_store_n(&o->stop, true, __ATOMIC_RELAXED);
	pthread_join(o->thread, NULL);
	close(o->nl);
}

/* It has closed what it opened for the events up to now. */
static int opener_idle(struct opener *o, struct nbd *t)
{
	long long deadline = now_ms() + PATIENCE_MS;
	__u64 seen = 0;
	int ret;

	/* it may itself cause events: of partitions */
	for (;;) {
		ret = watch_settle(&t->w);
		if (ret)
			return ret;
		if (!t->w.log.nr || t->w.log.ev[t->w.log.nr - 1].seqnum == seen)
			return 0;
		seen = t->w.log.ev[t->w.log.nr - 1].seqnum;
		while (__atomic_load_n(&o->seen, __ATOMIC_ACQUIRE) < seen) {
			if (now_ms() > deadline)
				return -ETIMEDOUT;
			nap();
		}
	}
}

#define MAX_RECONNECTS	60

/*
 * The events of a disconnect bring openers. They must not be in the way of the
 * ioctls. A connect by netlink is refused while the device is open, and the one
 * event of old at the last close has always brought an opener: it may be refused,
 * but not for longer than that.
 */
TEST_F_TIMEOUT(nbd, can_be_connected_again_at_once_with_an_opener, 120)
{
	int rounds = test_rounds(MAX_RECONNECTS), busy = 0, i, ret;
	struct nbd *t = &self->t;
	struct opener o;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	server_stop(&t->server);
	ASSERT_EQ(0, opener_start(&o, t->w.name));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, server_start(&t->server, i + 1, i % 2));
		ret = nbd_connect(t, variant->netlink);
		if (ret == -EBUSY) {
			busy++;
			ASSERT_EQ(0, opener_idle(&o, t));
			ret = nbd_connect(t, variant->netlink);
		}
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, opener_idle(&o, t));
		ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
		close_ioctl(t);
		server_stop(&t->server);
	}
	opener_stop(&o);
	EXPECT_LT(rounds, o.visits);
	TH_LOG("%d of %d busy", busy, rounds);
	if (!variant->netlink)
		EXPECT_EQ(0, busy);
}

/* Three ways to end a link that came after a NBD_CLEAR_SOCK */

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
	__atomic_add_fetch(&e->done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void on_signal(int sig)
{
}

/* Where it does not end the server does, so that the test can. */
TEST_F_TIMEOUT(nbd, a_link_set_after_a_clear_sock_can_be_ended, 120)
{
	const struct sigaction act = { .sa_handler = on_signal };
	struct nbd *t = &self->t;
	struct server second;
	pthread_t thread;
	int way;

	if (self->reason)
		SKIP(return, "%s", self->reason);
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
		done = wait_until(&e.done, 1);
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

/* The server of the distribution, where it is installed */

#define NBD_SOCKET	"/tmp/diskseq-nbd.sock"
#define NBD_CONFIG	"/tmp/diskseq-nbd.conf"
#define NBD_FILE	"/tmp/diskseq-nbd.img"
#define NBD_PID		"/tmp/diskseq-nbd.pid"

/* nbd-server wants to have a network, though nobody is going to use it. */
static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0)
		return;
	if (!ioctl(fd, SIOCGIFFLAGS, &ifr) && !(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags |= IFF_UP;
		ioctl(fd, SIOCSIFFLAGS, &ifr);
	}
	close(fd);
}

static int write_file(const char *path, const char *buf, size_t len)
{
	int fd, ret = 0;

	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, buf, len) != (ssize_t)len)
		ret = -EIO;
	close(fd);
	return ret;
}

static void nbd_server_remove(const char *name)
{
	unlink(NBD_SOCKET);
	unlink(NBD_CONFIG);
	unlink(NBD_FILE);
	unlink(NBD_PID);
}

/*
 * A server of one export, for one client. Returns its pid. It is in the network,
 * too, whether anybody is going to use that or not.
 */
static int nbd_server_start(__u64 tag)
{
	static const char config[] = "[generic]\nunixsock = " NBD_SOCKET "\n"
		"listenaddr = 127.0.0.1\nport = 10890\n"
		"[test]\nexportname = " NBD_FILE "\n";
	static char buf[EXPORT_SIZE];
	const struct server s = { .tag = tag };
	int ret, null;
	pid_t pid;

	server_fill(&s, buf, 0, sizeof(buf));
	ret = leftover_expect("nbd-server", nbd_server_remove);
	if (!ret)
		ret = write_file(NBD_FILE, buf, sizeof(buf));
	if (!ret)
		ret = write_file(NBD_CONFIG, config, strlen(config));
	if (ret)
		return ret;
	unlink(NBD_SOCKET);
	loopback_up();
	pid = fork();
	if (pid)
		return pid < 0 ? -errno : pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	execlp("nbd-server", "nbd-server", "-d", "-C", NBD_CONFIG, "-p",
	       NBD_PID, NULL);
	_exit(127);
}

/*
 * Returns a socket with which the server is ready for requests. -ENOENT: there is
 * no such program.
 */
static int nbd_server_connect(int pid)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = NBD_SOCKET };
	long long deadline = now_ms() + PATIENCE_MS;
	/* client's flags, NBD_OPT_EXPORT_NAME and the name */
	static const char option[] = "\0\0\0\1IHAVEOPT\0\0\0\1\0\0\0\4test";
	char hello[18], answer[8 + 2 + 124];
	int fd, status;
	__be64 size;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			close(fd);
			return WIFEXITED(status) && WEXITSTATUS(status) == 127 ?
			       -ENOENT : -ECHILD;
		}
		if (now_ms() > deadline) {
			close(fd);
			return -ETIMEDOUT;
		}
		nap();
	}
	if (transfer(fd, hello, sizeof(hello), false) &&
	    transfer(fd, (char *)option, sizeof(option) - 1, true) &&
	    transfer(fd, answer, sizeof(answer), false)) {
		memcpy(&size, answer, sizeof(size));
		if (be64toh(size) == EXPORT_SIZE)
			return fd;
	}
	close(fd);
	return -EPROTO;
}

/* It searches for a large prime before it says hello: seconds, or a minute. */
TEST_F_TIMEOUT(nbd, exports_of_the_server_of_the_distribution, 400)
{
	struct nbd *t = &self->t;
	int pid, tag, fd;
	__u64 seq;

	if (self->reason)
		SKIP(return, "%s", self->reason);

	server_stop(&t->server);
	seq = watch_number(&t->w);
	for (tag = 1; tag <= 2; tag++) {
		pid = nbd_server_start(tag);
		ASSERT_LT(0, pid);
		fd = nbd_server_connect(pid);
		if (fd == -ENOENT) {
			nbd_server_remove(NULL);
			SKIP(return, "needs nbd-server");
		}
		ASSERT_LE(0, fd);
		t->server.theirs = fd;

		ASSERT_EQ(0, nbd_connect(t, variant->netlink));
		seq = check_server_change(_metadata, t, seq);
		EXPECT_EQ(tag, read_tag_once(t));
		ASSERT_EQ(0, watch_settle(&t->w));

		ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
		close_ioctl(t);
		seq = check_server_change(_metadata, t, seq);
		EXPECT_GE(0, read_tag_once(t));
		close(fd);
		kill(pid, SIGTERM);
		waitpid(pid, NULL, 0);
	}
	nbd_server_remove(NULL);
}

/* Devices that are destroyed when they are disconnected */

#define DESTROYED_INDEX	1000	/* none that is there from the beginning */
#define MAX_DESTROYED	20

/* In processes of their own: a kernel that deadlocks keeps them. */

static int destroy_and_connect(struct nbd *t, int rounds)
{
	struct opener o;
	int i, fd, ret;

	ret = opener_start(&o, t->w.name);
	for (i = 0; !ret && i < rounds; i++) {
		t->client_flags = NBD_CFLAG_DESTROY_ON_DISCONNECT;
		ret = server_start(&t->server, i + 1, i % 4 > 1);
		if (ret)
			break;
		/* the opener may be the first to find the new device */
		ret = nbd_connect_when_free(t, true);
		if (ret)
			break;
		fd = open_disk(t->w.name, O_RDONLY);
		if (fd < 0)
			return fd;
		if (read_tag(fd, PAGE) != i + 1)
			return -EIO;
		/* the last close destroys it, or what disconnects it does */
		if (i % 2)
			close(fd);
		ret = disconnect_netlink(t);
		if (!(i % 2))
			close(fd);
		server_stop(&t->server);
	}
	opener_stop(&o);
	return ret;
}

/* It is not destroyed because of an earlier disconnect, and waits for nothing. */
static int destroy_later(struct nbd *t, int rounds)
{
	int i, ret = 0;

	for (i = 0; !ret && i < rounds; i++) {
		ret = server_start(&t->server, 1, false);
		if (ret)
			break;
		t->client_flags = 0;
		ret = connect_netlink(t, &t->server, true);
		if (ret)
			break;
		disconnect_netlink(t);
		server_stop(&t->server);
		ret = server_start(&t->server, 1, false);
		if (ret)
			break;
		t->client_flags = NBD_CFLAG_DESTROY_ON_DISCONNECT;
		ret = nbd_connect_when_free(t, true);
		if (ret)
			break;
		if (connect_netlink(t, &t->server, true) != -EBUSY)
			ret = -EINVAL;
		disconnect_netlink(t);
		server_stop(&t->server);
	}
	return ret;
}

static void run_destroyer(struct __test_metadata *_metadata, struct nbd *t,
			  int (*run)(struct nbd *t, int rounds), int rounds)
{
	long long deadline = now_ms() + 3 * PATIENCE_MS;
	int status = 0;
	pid_t pid, ret;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(-run(t, rounds));
	}
	while (!(ret = waitpid(pid, &status, WNOHANG)) && now_ms() < deadline)
		nap();
	if (!ret)
		kill(pid, SIGKILL);
	EXPECT_EQ(pid, ret) {
		TH_LOG("hangs");
	}
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

FIXTURE(destroyed_nbd)
{
	const char *reason;
	struct nbd t;
};

FIXTURE_SETUP(destroyed_nbd)
{
	struct nbd *t = &self->t;

	self->reason = nbd_probe(t);
	t->index = DESTROYED_INDEX;
	snprintf(t->w.name, sizeof(t->w.name), "nbd%d", t->index);
}

FIXTURE_TEARDOWN(destroyed_nbd)
{
	if (!self->reason)
		shared->began = 0;
	if (self->t.genl >= 0)
		close(self->t.genl);
}

TEST_F_TIMEOUT(destroyed_nbd, can_be_connected_again, 120)
{
	if (self->reason)
		SKIP(return, "%s", self->reason);

	run_destroyer(_metadata, &self->t, destroy_and_connect,
		      test_rounds(MAX_DESTROYED));
}

TEST_F_TIMEOUT(destroyed_nbd, is_not_destroyed_before_it_is_disconnected, 120)
{
	if (self->reason)
		SKIP(return, "%s", self->reason);

	run_destroyer(_metadata, &self->t, destroy_later, 2);
}

TEST_HARNESS_MAIN
