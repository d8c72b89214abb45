/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Disks of scsi_debug.
 */
#ifndef __DISKSEQ_SCSI_DEBUG_H
#define __DISKSEQ_SCSI_DEBUG_H

#include "diskseq_cleanup.h"
#include "diskseq_uevent.h"

#define SCSI_DEBUG	"/sys/bus/pseudo/drivers/scsi_debug/"
#define SCSI_DISK	"/sys/bus/scsi/drivers/sd"

static inline bool have_scsi_debug(void)
{
	if (access(SCSI_DEBUG, F_OK))
		load_module("scsi_debug", "add_host=0");
	if (access(SCSI_DISK, F_OK))
		load_module("sd_mod", NULL);
	return !access(SCSI_DEBUG "add_host", W_OK) && !access(SCSI_DISK, F_OK);
}

static int *scsi_debug_hosts;

/* A new host with one disk, which is found in its own time */
static inline int scsi_debug_add(int nl, struct uevent_log *log, char name[64])
{
	struct uevent ev;
	int ret;

	ret = write_text(SCSI_DEBUG "add_host", "1");
	if (ret)
		return ret;
	++*scsi_debug_hosts;
	ret = uevent_wait_for_disk(nl, log, uevent_is_add, "/pseudo_", &ev);
	if (!ret)
		snprintf(name, 64, "%s", ev.disk);
	return ret;
}

/* The last one that was added */
static inline int scsi_debug_remove(void)
{
	--*scsi_debug_hosts;
	return write_text(SCSI_DEBUG "add_host", "-1");
}

static inline void scsi_debug_end(void)
{
	while (*scsi_debug_hosts)
		scsi_debug_remove();
}

static __attribute__((constructor)) void scsi_debug_init(void)
{
	scsi_debug_hosts = shared_memory(sizeof(*scsi_debug_hosts));
	at_end(scsi_debug_end);
}

#endif /* __DISKSEQ_SCSI_DEBUG_H */
