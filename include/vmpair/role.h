/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Role of this host for a pair, for applications that only want to know whether they are where the entry is (a cron job, a writer).
 *
 * Purpose   vmpaird keeps one page per pair in /run/vmpair/role/PAIR: role, epoch and the end of the lease. Reading it is a few loads and
 *           one look at the clock, no system call: ask before each thing that only the primary may do.
 * Meaning   "primary" holds until *left_ns is over, also when vmpaird dies or is stopped: the lease is the kernel gate's own. After
 *           that the answer is "not primary" until the lease is renewed. What is begun just before may end just after; where that
 *           matters, pass `epoch` along and let the receiver refuse lower ones.
 * Units     _ns on CLOCK_BOOTTIME.
 * Errors    negative errno. Nothing is logged.
 * Threads   vmpair_role_read() may be called by any number of threads on one handle.
 */
#ifndef VMPAIR_ROLE_H
#define VMPAIR_ROLE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMPAIR_ROLE_DIR "/run/vmpair/role"

struct vmpair_role_page;

struct vmpair_role_info {
	bool primary;
	uint64_t epoch;		/* of the present or the newest primary here; grows with each change */
	uint64_t left_ns;	/* of the lease, 0 when not primary */
};

/*
 * dir NULL = VMPAIR_ROLE_DIR. 0; -ENOENT: no such pair on this host (yet); -EINVAL: no name of a pair; -EPROTO: not a page of this
 * version; -EACCES, -ENOMEM ...
 */
int vmpair_role_open(struct vmpair_role_page **ret, const char *dir, const char *pair);
/* NULL is fine; returns NULL. */
struct vmpair_role_page *vmpair_role_close(struct vmpair_role_page *r);
/* 0; -ESTALE: the pair was removed from this host, or the page is another one now: close and open again. */
int vmpair_role_read(const struct vmpair_role_page *r, struct vmpair_role_info *ret);

#ifdef __cplusplus
}
#endif

#endif
