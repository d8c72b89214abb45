/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __DISKSEQ_INIT_H
#define __DISKSEQ_INIT_H

#include <stdbool.h>

bool report_leaks(void);

#endif
