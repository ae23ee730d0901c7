/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How this host is: carrier of interfaces and load, read four times a second by a thread of ordinary priority, because sysfs may wait for
 * the network's lock and procfs for memory. Functions are called from the loop's thread and never wait for the reading itself.
 */
#ifndef VMP_HOSTWATCH_H
#define VMP_HOSTWATCH_H

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>

#define VMP_HOSTWATCH_MS 250
#define VMP_HOSTWATCH_LINKS 64

struct vmp_hostwatch;

struct vmp_hostwatch_paths { /* for tests; NULL: /sys/class/net, /proc */
	const char *net, *proc;
};

int vmp_hostwatch_new(struct vmp_hostwatch **ret, const struct vmp_hostwatch_paths *paths);
/* The thread ends by itself; nobody waits for it. NULL is fine; returns NULL. */
struct vmp_hostwatch *vmp_hostwatch_free(struct vmp_hostwatch *w);

/* Number of the newest reading; 0: none yet. What the functions below say is of that one. */
uint64_t vmp_hostwatch_serial(struct vmp_hostwatch *w);
/* 1 carrier, 0 none, -ENODATA not read yet (it is from now on), -ENOENT no such interface, -ENETDOWN it is down, -ENOSPC too many. */
int vmp_hostwatch_carrier(struct vmp_hostwatch *w, const char *name);

enum vmp_hostwatch_load { VMP_LOAD_CPU, VMP_LOAD_MEMORY, VMP_LOAD_IO, VMP_LOAD_AVERAGE, VMP_LOAD_COUNT };
/* Percent, or -errno: share of the last 10 s in which some process waited; load average of a minute per processor. */
int vmp_hostwatch_load(struct vmp_hostwatch *w, enum vmp_hostwatch_load what);

#endif
