// SPDX-License-Identifier: GPL-2.0
/*
 * Exports of nbd-server, where that program of the distribution is installed.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>
#include <sys/un.h>
#include <linux/if.h>

#include "diskseq_nbd.h"

#define NBD_SOCKET	"/tmp/diskseq-nbd.sock"
#define NBD_CONFIG	"/tmp/diskseq-nbd.conf"
#define NBD_FILE	"/tmp/diskseq-nbd.img"
#define NBD_PID		"/tmp/diskseq-nbd.pid"

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
	unlink(NBD_SOCKET);
	unlink(NBD_CONFIG);
	unlink(NBD_FILE);
	unlink(NBD_PID);
}

/*
 * A server of one export, for one client. Returns its pid. It listens on the
 * network as well, as it cannot be told not to.
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

	SKIP_IF(return, self->reason);

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

TEST_HARNESS_MAIN
