/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vrrp: what the entry mode `keepalived` needs beside the gate: the track file of each pair, DIR/PAIR, written by a guard process
 * (vrrpguard.c), and keepalived's notify FIFO, DIR/notify, of which instances that are named like a pair are reported.
 *
 * One thread, the loop's; nothing blocks. Negative errno.
 */
#ifndef VMP_VRRP_H
#define VMP_VRRP_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/addr.h"
#include "daemon/loop.h"

struct vmp_vrrp;
struct vmp_vrrp_guard;

/* state: MASTER, BACKUP, FAULT, STOP as keepalived writes it. From the loop. */
typedef void (*vmp_vrrp_fn)(void *data, const char *instance, const char *state);

int vmp_vrrp_new(struct vmp_vrrp **ret, struct vmp_loop *loop, const char *dir, const char *guard_program, vmp_vrrp_fn fn, void *data,
		 char *reason, size_t size);
/* Guards go on until the lease they watch has ended. */
struct vmp_vrrp *vmp_vrrp_free(struct vmp_vrrp *v);
/* Guards that have ended are started again. A few times a second. */
void vmp_vrrp_slow(struct vmp_vrrp *v);

/* Whether this host has the address now, as the master of its instance has. May block a little; for start-up. */
bool vmp_vrrp_carries(const struct vmp_addr *a);

/* map: path of the pinned expiry word. Started at once and whenever it ends, until vmp_vrrp_guard_stop(). */
int vmp_vrrp_guard_start(struct vmp_vrrp *v, const char *pair, const char *map, struct vmp_vrrp_guard **ret);
/* The word was stored, or closed: have it looked at. NULL-safe. */
void vmp_vrrp_guard_wake(struct vmp_vrrp_guard *g);
/* The entry is closed for good: the file stays at 1, as keepalived takes a missing one for 0. NULL-safe, returns NULL. */
struct vmp_vrrp_guard *vmp_vrrp_guard_stop(struct vmp_vrrp_guard *g);

#endif
