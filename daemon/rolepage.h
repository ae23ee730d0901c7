/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page of a pair that applications on this host read their role from (include/vmpair/role.h). It outlives the daemon: what it says
 * ends with the lease, and a restarted daemon goes on with the same page, so that readers keep their mapping.
 */
#ifndef VMP_DAEMON_ROLEPAGE_H
#define VMP_DAEMON_ROLEPAGE_H

#include <stdint.h>

struct vmp_rolepage;

/* dir NULL = VMPAIR_ROLE_DIR; made (0755) when missing. A page that exists is taken over as it is. 0 or -errno. */
int vmp_rolepage_open(struct vmp_rolepage **ret, const char *dir, const char *pair);
/* expiry_ns: end of the lease, CLOCK_BOOTTIME; 0: not primary. NULL is fine. */
void vmp_rolepage_set(struct vmp_rolepage *p, uint64_t epoch, uint64_t expiry_ns);
/* Lets go of it; the page stays for readers and for the next daemon. NULL is fine; returns NULL. */
struct vmp_rolepage *vmp_rolepage_free(struct vmp_rolepage *p);
/* The pair has left this host: readers are told, the file goes. Returns NULL. */
struct vmp_rolepage *vmp_rolepage_remove(struct vmp_rolepage *p, const char *dir, const char *pair);

#endif
