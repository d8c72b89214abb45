/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An nbd server in a thread, at the other end of a socketpair: every 8 bytes of its
 * export are its tag.
 */
#ifndef __DISKSEQ_NBD_SERVER_H
#define __DISKSEQ_NBD_SERVER_H

#include <endian.h>
#include <pthread.h>
#include <sys/socket.h>
#include <linux/nbd.h>

#include "diskseq_table.h"

#define EXPORT_SIZE	(1024 * 1024)

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
	bool mute;		/* takes requests and does not answer */
	unsigned int ignored;	/* how many */
	enum nonsense nonsense;	/* what it answers */
};

static inline bool transfer(int fd, void *buf, size_t len, bool out)
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

static inline void server_fill(const struct server *s, char *buf, __u64 from,
			       __u32 len)
{
	__u32 i;

	for (i = 0; i < len; i += sizeof(s->tag))
		memcpy(buf + i, &s->tag, sizeof(s->tag));
	if (s->partitioned && !from && len >= SECTOR)
		table_two((unsigned char *)buf);
}

/* A handle is the tag of the request, and how often that was used before. */
static inline void talk_nonsense(struct nbd_reply *reply, enum nonsense nonsense)
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

static inline void *server_run(void *arg)
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
		if (flag_is_set(&s->mute)) {
			counter_inc(&s->ignored);
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

static inline int server_start(struct server *s, __u64 tag, bool partitioned)
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

/* A thread that a hanging kernel does not release is left behind. */
static inline int join_in_time(pthread_t thread)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 2 * PATIENCE_MS / 1000;
	return -pthread_timedjoin_np(thread, NULL, &end);
}

/* Ends the link if that has not happened yet. */
static inline void server_stop(struct server *s)
{
	if (!s->running)
		return;
	shutdown(s->ours, SHUT_RDWR);
	join_in_time(s->thread);
	close(s->ours);
	close(s->theirs);
	s->running = false;
}

#endif /* __DISKSEQ_NBD_SERVER_H */
