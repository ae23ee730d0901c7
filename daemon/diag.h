/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Collected complaints about a file an operator wrote: "FILE:LINE: what is wrong (what to do)", one per line.
 * All errors of a file are gathered, so that one run of `vmpaird -t` shows them all. Bounded: what does not fit is
 * counted, not stored. A plain value; no locking.
 */
#ifndef VMP_DIAG_H
#define VMP_DIAG_H

#include <stdarg.h>
#include <stddef.h>

#define VMP_DIAG_MAX 8192

struct vmp_diag {
	size_t len;
	unsigned int count;	/* complaints added, also those that did not fit */
	char text[VMP_DIAG_MAX];	/* NUL-terminated; each complaint ends with a newline */
};

void vmp_diag_init(struct vmp_diag *d);

/* line 0: the complaint is about the file as a whole. d may be NULL (nothing is kept). */
void vmp_diag_add(struct vmp_diag *d, const char *file, unsigned int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
