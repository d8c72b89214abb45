/* SPDX-License-Identifier: GPL-2.0 */
/*
 * zram devices.
 */
#ifndef __DISKSEQ_ZRAM_H
#define __DISKSEQ_ZRAM_H

#include "diskseq_util.h"

#define ZRAM_CONTROL	"/sys/class/zram-control/"

static inline bool have_zram(void)
{
	if (access(ZRAM_CONTROL, F_OK))
		load_module("zram", "num_devices=0");
	return !access(ZRAM_CONTROL, F_OK);
}

static inline int zram_hot_add(char name[64])
{
	char buf[32];
	int ret;

	ret = read_text(ZRAM_CONTROL "hot_add", buf, sizeof(buf));
	if (!ret)
		snprintf(name, 64, "zram%d", atoi(buf));
	return ret;
}

static inline int zram_hot_remove(const char *name)
{
	return write_text(ZRAM_CONTROL "hot_remove", name + strlen("zram"));
}

#endif /* __DISKSEQ_ZRAM_H */
