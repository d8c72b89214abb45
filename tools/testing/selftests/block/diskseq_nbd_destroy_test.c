// SPDX-License-Identifier: GPL-2.0
/*
 * nbd devices that are destroyed when they are disconnected: they can be connected
 * again, and are not destroyed before that.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>

#include "diskseq_nbd.h"
#include "diskseq_opener.h"

#define DESTROYED_INDEX	1000	/* none that is there from the beginning */
#define MAX_DESTROYED	20

/* In processes of their own: a kernel that deadlocks keeps them. */

static int destroy_and_connect(struct nbd *t, int rounds)
{
	struct opener o;
	int i, fd, ret;

	ret = opener_start(&o, t->w.name, false);
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
		ret = nbd_connect_when_free(t, true);
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
	pid_t pid;
	int ret;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(-run(t, rounds));
	}
	ret = wait_for_exit(pid, 3 * PATIENCE_MS);
	if (ret == -ETIMEDOUT)
		kill(pid, SIGKILL);
	EXPECT_EQ(0, ret) {
		TH_LOG("%s", ret == -ETIMEDOUT ? "it hangs" : strerror(ret));
	}
}

FIXTURE(destroyed_nbd)
{
	const char *reason;
	struct nbd t;
};

FIXTURE_SETUP(destroyed_nbd)
{
	struct nbd *t = &self->t;

	self->reason = nbd_probe(t, _metadata->timeout);
	t->index = DESTROYED_INDEX;
	snprintf(t->w.name, sizeof(t->w.name), "nbd%d", t->index);
}

FIXTURE_TEARDOWN(destroyed_nbd)
{
	if (!self->reason)
		*nbd_ends = 0;
	if (self->t.genl >= 0)
		close(self->t.genl);
}

TEST_F_TIMEOUT(destroyed_nbd, can_be_connected_again, 120)
{
	SKIP_IF(return, self->reason);

	run_destroyer(_metadata, &self->t, destroy_and_connect,
		      test_rounds(MAX_DESTROYED));
}

TEST_F_TIMEOUT(destroyed_nbd, is_not_destroyed_before_it_is_disconnected, 120)
{
	SKIP_IF(return, self->reason);

	run_destroyer(_metadata, &self->t, destroy_later, 2);
}

TEST_HARNESS_MAIN
