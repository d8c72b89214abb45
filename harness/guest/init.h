/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __DISKSEQ_INIT_H
#define __DISKSEQ_INIT_H

#include <stdbool.h>
#include <stdio.h>

bool report_leaks(void);
bool send_counters(FILE *port);

#endif
