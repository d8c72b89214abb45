/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What nearly every test of the disk sequence number needs.
 */
#ifndef __DISKSEQ_H
#define __DISKSEQ_H

#include "diskseq_cleanup.h"
#include "diskseq_disk.h"
#include "diskseq_loop.h"
#include "diskseq_number.h"
#include "diskseq_uevent.h"
#include "diskseq_util.h"

#endif /* __DISKSEQ_H */
