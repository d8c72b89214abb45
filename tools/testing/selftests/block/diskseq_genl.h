/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Generic netlink, as little of it as nbd needs.
 */
#ifndef __DISKSEQ_GENL_H
#define __DISKSEQ_GENL_H

#include <poll.h>
#include <sys/socket.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>

#include "diskseq_util.h"

struct genl {
	struct nlmsghdr nlh;
	struct genlmsghdr genlh;
	char attrs[512];
};

static inline void genl_init(struct genl *msg, __u16 family, __u8 cmd)
{
	memset(msg, 0, sizeof(*msg));
	msg->nlh.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN);
	msg->nlh.nlmsg_type = family;
	msg->nlh.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	msg->genlh.cmd = cmd;
	msg->genlh.version = 1;
}

static inline struct nlattr *genl_put(struct genl *msg, __u16 type,
				      const void *data, size_t len)
{
	struct nlattr *attr = (void *)msg + msg->nlh.nlmsg_len;

	attr->nla_type = type;
	attr->nla_len = NLA_HDRLEN + len;
	if (len)
		memcpy((void *)attr + NLA_HDRLEN, data, len);
	msg->nlh.nlmsg_len += NLA_ALIGN(attr->nla_len);
	return attr;
}

static inline void genl_put_u32(struct genl *msg, __u16 type, __u32 val)
{
	genl_put(msg, type, &val, sizeof(val));
}

static inline void genl_put_u64(struct genl *msg, __u16 type, __u64 val)
{
	genl_put(msg, type, &val, sizeof(val));
}

static inline void genl_put_socket(struct genl *msg, int fd)
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

static inline const struct nlattr *attr_find(const void *from, int left, __u16 type)
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
static inline int genl_talk(int fd, struct genl *msg, __u16 want, void *val,
			    size_t len)
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

static inline int genl_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);

	return fd < 0 ? -errno : fd;
}

/* An attribute of nbd's family, @want, goes to @val. */
static inline int ask_for_family(int fd, __u16 want, void *val, size_t len)
{
	struct genl msg;

	genl_init(&msg, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	genl_put(&msg, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME,
		 sizeof(NBD_GENL_FAMILY_NAME));
	return genl_talk(fd, &msg, want, val, len);
}

static inline int nbd_family(int fd)
{
	__u16 family = 0;
	int ret = ask_for_family(fd, CTRL_ATTR_FAMILY_ID, &family, sizeof(family));

	return ret ? ret : family;
}

/* A socket that gets a message for each link of nbd that is lost */
static inline int nbd_listen(void)
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

static inline int wait_for_lost_link(int fd)
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

#endif /* __DISKSEQ_GENL_H */
