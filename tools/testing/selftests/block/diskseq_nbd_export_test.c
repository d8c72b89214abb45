// SPDX-License-Identifier: GPL-2.0
/*
 * Exports of nbd-server, where that program of the distribution is installed.
 */
#define _GNU_SOURCE
#include <sys/un.h>
#include <linux/if.h>

#include "diskseq_nbd.h"

#define NBD_SOCKET	"/tmp/diskseq-nbd.sock"
#define NBD_CONFIG	"/tmp/diskseq-nbd.conf"
#define NBD_FILE	"/tmp/diskseq-nbd.img"	/* and the number of the export */
#define NBD_PID		"/tmp/diskseq-nbd.pid"
#define NR_EXPORTS	2

/* nbd-server wants to have a network, though it is not used here. */
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
	char buf[32];

	if (!read_text(NBD_PID, buf, sizeof(buf)) && atoi(buf) > 0)
		kill(atoi(buf), SIGTERM);
	unlink(NBD_SOCKET);
	unlink(NBD_CONFIG);
	unlink(NBD_FILE "1");
	unlink(NBD_FILE "2");
	unlink(NBD_PID);
}

static int nbd_export_create(const char *path, __u64 tag)
{
	static char buf[EXPORT_SIZE];
	const struct server s = { .tag = tag };

	server_fill(&s, buf, 0, sizeof(buf));
	return write_file(path, buf, sizeof(buf));
}

/*
 * Starts the server, with its exports "1" and "2", as a daemon that lasts until the
 * program ends. It listens on the network as well, which cannot be turned off.
 */
static int nbd_server_start(void)
{
	static const char config[] = "[generic]\nunixsock = " NBD_SOCKET "\n"
		"listenaddr = 127.0.0.1\nport = 10890\n"
		"[1]\nexportname = " NBD_FILE "1\n"
		"[2]\nexportname = " NBD_FILE "2\n";
	int ret, null;
	pid_t pid;

	ret = leftover_expect("nbd-server", nbd_server_remove);
	if (!ret)
		ret = nbd_export_create(NBD_FILE "1", 1);
	if (!ret)
		ret = nbd_export_create(NBD_FILE "2", 2);
	if (!ret)
		ret = write_file(NBD_CONFIG, config, strlen(config));
	if (ret)
		return ret;
	unlink(NBD_SOCKET);
	loopback_up();
	pid = fork();
	if (!pid) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execlp("nbd-server", "nbd-server", "-C", NBD_CONFIG, "-p",
		       NBD_PID, NULL);
		_exit(127);
	}
	if (pid < 0)
		return -errno;
	/* a daemon leaves its parent */
	ret = wait_for_exit(pid, PATIENCE_MS);
	return ret == 127 ? -ENOENT : ret > 0 ? -ECHILD : ret;
}

/* Returns a socket with which that export is ready for requests. */
static int nbd_export_connect(int nr)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = NBD_SOCKET };
	long long deadline = now_ms() + PATIENCE_MS;
	/* client's flags, NBD_OPT_EXPORT_NAME and the name */
	char option[] = "\0\0\0\1IHAVEOPT\0\0\0\1\0\0\0\1?";
	char hello[18], answer[8 + 2 + 124];
	__be64 size;
	int fd;

	option[sizeof(option) - 2] = '0' + nr;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		if (now_ms() > deadline) {
			close(fd);
			return -ETIMEDOUT;
		}
		nap();
	}
	if (transfer(fd, hello, sizeof(hello), false) &&
	    transfer(fd, option, sizeof(option) - 1, true) &&
	    transfer(fd, answer, sizeof(answer), false)) {
		memcpy(&size, answer, sizeof(size));
		if (be64toh(size) == EXPORT_SIZE)
			return fd;
	}
	close(fd);
	return -EPROTO;
}

/* Whether a case has started the server */
static bool *nbd_server_runs;

static __attribute__((constructor)) void nbd_export_init(void)
{
	nbd_server_runs = shared_memory(sizeof(*nbd_server_runs));
}

/*
 * The server searches for a large prime before it starts the handshake:
 * seconds, or a minute.
 */
TEST_F_TIMEOUT(nbd, exports_of_the_server_of_the_distribution, 400)
{
	struct nbd *t = &self->t;
	int nr, fd, ret;
	__u64 seq;

	SKIP_IF(return, self->reason);

	server_stop(&t->server);
	if (!*nbd_server_runs) {
		ret = nbd_server_start();
		if (ret == -ENOENT)
			SKIP(return, "needs nbd-server");
		ASSERT_EQ(0, ret);
		*nbd_server_runs = true;
	}
	seq = watch_number(&t->w);
	for (nr = 1; nr <= NR_EXPORTS; nr++) {
		fd = nbd_export_connect(nr);
		ASSERT_LE(0, fd);
		t->server.theirs = fd;

		ASSERT_EQ(0, nbd_connect(t, variant->netlink));
		seq = check_server_change(_metadata, t, seq);
		EXPECT_EQ(nr, read_tag_once(t));
		ASSERT_EQ(0, watch_settle(&t->w));

		ASSERT_EQ(0, nbd_disconnect(t, variant->netlink));
		close_ioctl(t);
		seq = check_server_change(_metadata, t, seq);
		EXPECT_GE(0, read_tag_once(t));
		close(fd);
	}
}

TEST_HARNESS_MAIN
