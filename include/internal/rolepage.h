/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The page behind vmpair/role.h: written by vmpaird, mapped by readers on the same host, so in the host's own byte order. */
#ifndef VMP_INTERNAL_ROLEPAGE_H
#define VMP_INTERNAL_ROLEPAGE_H

#include <stdatomic.h>
#include <stdint.h>

#define VMP_ROLEPAGE_MAGIC 0x31656c6f52505603ull
#define VMP_ROLEPAGE_SIZE 4096

struct vmp_rolepage {
	_Atomic uint64_t magic;		/* 0: the pair is gone */
	_Atomic uint32_t seq;		/* odd while it is written */
	uint32_t zero;
	_Atomic uint64_t epoch;
	_Atomic uint64_t expiry_ns;	/* CLOCK_BOOTTIME; 0: not primary */
};

#endif
