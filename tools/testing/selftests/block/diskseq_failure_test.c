// SPDX-License-Identifier: GPL-2.0
/*
 * What fails on a loop device leaves its number alone and sends no event.
 */
#define _GNU_SOURCE
#include "diskseq.h"
#include "diskseq_target.h"

#define IMAGE_SIZE	(1024 * 1024)

/* What fails, on a loop device that is in this state before and after */
enum state { UNBOUND, BOUND, BOUND_READ_ONLY };

enum backing { IMAGE, OTHER, BIGGER, OWN_DEVICE, DIRECTORY, PIPE, CLOSED, };

struct attempt {
	unsigned int cmd;
	enum backing backing;
	unsigned int block_size;
	unsigned int flags;
	unsigned int key_size;
	bool claimed;		/* by another opener, exclusively */
	bool no_memory;		/* where the argument points */
	bool half_memory;
};

static int attempt(struct target *t, const struct attempt *a)
{
	long size = sysconf(_SC_PAGESIZE);
	struct loop_config *config;
	int ret, backing = -1, opener = -1, fds[2] = { -1, -1 };
	char *mem;

	switch (a->backing) {
	case IMAGE:
		backing = dup(t->image);
		break;
	case OTHER:
		backing = dup(t->other);
		break;
	case BIGGER:
		backing = backing_file(2 * IMAGE_SIZE, false);
		break;
	case OWN_DEVICE:
		backing = dup(t->lo.fd);
		break;
	case DIRECTORY:
		backing = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		break;
	case PIPE:
		if (!pipe(fds))
			backing = fds[0];
		break;
	case CLOSED:
		break;
	}
	if (a->backing != CLOSED && backing < 0)
		return -EIO;
	if (a->claimed) {
		opener = open_disk(t->lo.name, O_RDONLY | O_EXCL);
		if (opener < 0)
			return -EIO;
	}

	if (a->cmd == LOOP_CONFIGURE) {
		mem = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mem == MAP_FAILED)
			return -EIO;
		munmap(mem + size, size);
		config = (void *)(mem + size - sizeof(*config));
		if (a->half_memory)
			config = (void *)(mem + size - sizeof(*config) / 2);
		config->fd = backing;
		config->block_size = a->block_size;
		if (!a->half_memory) {
			config->info.lo_flags = a->flags;
			config->info.lo_encrypt_key_size = a->key_size;
		}
		if (a->no_memory)
			config = (void *)(mem + size);
		ret = ioctl(t->lo.fd, a->cmd, config) ? -errno : 0;
		munmap(mem, size);
	} else {
		ret = ioctl(t->lo.fd, a->cmd, (long)backing) ? -errno : 0;
	}
	if (opener >= 0)
		close(opener);
	if (backing >= 0)
		close(backing);
	if (fds[1] >= 0)
		close(fds[1]);
	return ret;
}

FIXTURE(failure)
{
	const char *reason;
	struct target t;
};

FIXTURE_VARIANT(failure)
{
	enum state state;
	struct attempt a;
	int error;
};

FIXTURE_VARIANT_ADD(failure, configure_closed_descriptor)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = CLOSED,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, configure_directory)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = DIRECTORY,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_pipe)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = PIPE,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_own_device)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = OWN_DEVICE,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, configure_small_block)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.block_size = 256,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_odd_block)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.block_size = 1536,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_unknown_flag)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.flags = 0x40000000,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_long_key)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.key_size = LO_KEY_SIZE + 1,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, configure_bad_pointer)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.no_memory = true,
	.error = EFAULT,
};

FIXTURE_VARIANT_ADD(failure, configure_half_bad_pointer)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.half_memory = true,
	.error = EFAULT,
};

FIXTURE_VARIANT_ADD(failure, configure_claimed_device)
{
	.a.cmd = LOOP_CONFIGURE,
	.a.claimed = true,
	.error = EBUSY,
};

FIXTURE_VARIANT_ADD(failure, configure_busy_device)
{
	.state = BOUND,
	.a.cmd = LOOP_CONFIGURE,
	.a.backing = OTHER,
	.error = EBUSY,
};

FIXTURE_VARIANT_ADD(failure, set_fd_closed_descriptor)
{
	.a.cmd = LOOP_SET_FD,
	.a.backing = CLOSED,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, set_fd_directory)
{
	.a.cmd = LOOP_SET_FD,
	.a.backing = DIRECTORY,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, set_fd_claimed_device)
{
	.a.cmd = LOOP_SET_FD,
	.a.claimed = true,
	.error = EBUSY,
};

FIXTURE_VARIANT_ADD(failure, set_fd_busy_device)
{
	.state = BOUND,
	.a.cmd = LOOP_SET_FD,
	.a.backing = OTHER,
	.error = EBUSY,
};

FIXTURE_VARIANT_ADD(failure, change_fd_unbound_device)
{
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = OTHER,
	.error = ENXIO,
};

FIXTURE_VARIANT_ADD(failure, change_fd_writable_device)
{
	.state = BOUND,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = OTHER,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, change_fd_closed_descriptor)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = CLOSED,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, change_fd_directory)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = DIRECTORY,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, change_fd_pipe)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = PIPE,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, change_fd_own_device)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = OWN_DEVICE,
	.error = EBADF,
};

FIXTURE_VARIANT_ADD(failure, change_fd_bigger_file)
{
	.state = BOUND_READ_ONLY,
	.a.cmd = LOOP_CHANGE_FD,
	.a.backing = BIGGER,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failure, clr_fd_unbound_device)
{
	.a.cmd = LOOP_CLR_FD,
	.a.backing = CLOSED,
	.error = ENXIO,
};

FIXTURE_SETUP(failure)
{
	struct target *t = &self->t;

	self->reason = target_init(t);
	if (self->reason)
		return;
	ASSERT_EQ(0, target_create_with_files(t, IMAGE_SIZE, true, true));
	if (variant->state == UNBOUND)
		return;
	ASSERT_EQ(0, loop_configure(t->lo.fd, t->image,
				    variant->state == BOUND_READ_ONLY ?
				    LO_FLAGS_READ_ONLY : 0));
	ASSERT_EQ(0, watch_settle(&t->w));
}

FIXTURE_TEARDOWN(failure)
{
	EXPECT_EQ(0, target_destroy(&self->t));
}

TEST_F(failure, leaves_number_and_events_alone)
{
	struct target *t = &self->t;
	__u64 old;

	SKIP_IF(return, self->reason);

	old = watch_number(&t->w);
	ASSERT_NE(0, old);
	ASSERT_EQ(-variant->error, attempt(t, &variant->a));
	check_no_number_used(_metadata, t, old);
	EXPECT_EQ(variant->state != UNBOUND, loop_is_bound(t->lo.fd));
}

TEST_HARNESS_MAIN
