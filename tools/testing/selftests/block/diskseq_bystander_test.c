// SPDX-License-Identifier: GPL-2.0
/*
 * An attach and a detach of a loop device of which nothing is cached cost other
 * devices nothing: the buffers that each processor keeps of them are dropped, and
 * each processor is interrupted for that, only where there are pages to drop.
 */
#define _GNU_SOURCE
#include <sys/mount.h>

#include "diskseq.h"
#include "diskseq_cleanup.h"
#include "diskseq_skip.h"

#define TRACEFS		"/sys/kernel/tracing/"
#define PROBE		"events/diskseq/drop/"
#define DROPS		"invalidate_bh_lrus"
#define IMAGE_SIZE	(1024 * 1024)
#define NR_CYCLES	10

static void probe_remove(void)
{
	write_text(TRACEFS PROBE "enable", "0");
	write_text(TRACEFS "kprobe_events", "-:diskseq/drop");
}

/* Let the kernel trace where this process drops the buffers of all devices. */
static const char *probe_add(void)
{
	char filter[40];

	mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	/* of a run that was killed */
	probe_remove();
	if (write_text(TRACEFS "kprobe_events", "p:diskseq/drop " DROPS))
		return "needs CONFIG_KPROBE_EVENTS";
	snprintf(filter, sizeof(filter), "common_pid == %d", getpid());
	if (write_text(TRACEFS PROBE "filter", filter) ||
	    write_text(TRACEFS PROBE "enable", "1"))
		return "needs an event that can be filtered";
	return NULL;
}

/* How often it was done since the trace was emptied, or -1. */
static int count_drops(void)
{
	FILE *f = fopen(TRACEFS "trace", "re");
	char line[512];
	int drops = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		drops += line[0] != '#' && strstr(line, DROPS);
	fclose(f);
	return drops;
}

static int empty_trace(void)
{
	int fd = open(TRACEFS "trace", O_WRONLY | O_TRUNC | O_CLOEXEC);

	return fd < 0 ? -errno : close(fd);
}

FIXTURE(bystander)
{
	const char *reason;
	struct loop lo;
	int file;
};

FIXTURE_SETUP(bystander)
{
	self->lo.nr = -1;
	self->reason = loop_unusable();
	/* udev reads each medium */
	if (!self->reason && udev_is_running())
		self->reason = "needs a machine without udev";
	if (!self->reason)
		self->reason = probe_add();
	if (self->reason)
		return;
	self->file = backing_file(IMAGE_SIZE, false);
	ASSERT_LE(0, self->file);
	ASSERT_EQ(0, loop_create(&self->lo));
	ASSERT_EQ(0, empty_trace());
}

FIXTURE_TEARDOWN(bystander)
{
	if (self->reason)
		return;
	probe_remove();
	EXPECT_EQ(0, loop_destroy(&self->lo));
	close(self->file);
}

TEST_F(bystander, keeps_its_buffers_when_nothing_is_cached)
{
	int i;

	SKIP_IF(return, self->reason);

	for (i = 0; i < NR_CYCLES; i++) {
		ASSERT_EQ(0, loop_configure(self->lo.fd, self->file, 0));
		ASSERT_EQ(0, loop_detach(self->lo.fd));
	}
	for (i = 0; i < NR_CYCLES; i++) {
		ASSERT_EQ(0, loop_configure(self->lo.fd, self->file,
					    LO_FLAGS_AUTOCLEAR));
		loop_close(&self->lo);
		ASSERT_EQ(0, loop_open(&self->lo, O_RDWR));
		ASSERT_FALSE(loop_is_bound(self->lo.fd));
	}
	EXPECT_EQ(0, count_drops());
}

/* Otherwise the case above would pass if the trace counted nothing. */
TEST_F(bystander, loses_its_buffers_when_a_page_is_dropped)
{
	char page[PAGE];

	SKIP_IF(return, self->reason);

	ASSERT_EQ(0, loop_configure(self->lo.fd, self->file, 0));
	ASSERT_EQ(sizeof(page), pread(self->lo.fd, page, sizeof(page), 0));
	ASSERT_EQ(0, loop_detach(self->lo.fd));
	EXPECT_LE(1, count_drops());
}

TEST_HARNESS_MAIN
