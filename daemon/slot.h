/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What follows from a pair's name and a node id: each member's own identity on its host ("slot"). Only the entry MAC
 * and the entry addresses are shared by the two members; everything here differs between nodes, without any
 * coordination.
 *
 * Pure functions on plain values, any thread. Errors: -EINVAL with one clear sentence in `reason`.
 */
#ifndef VMP_SLOT_H
#define VMP_SLOT_H

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/addr.h"
#include "daemon/core/core.h" /* vmp_pair_id() */

#define VMP_PAIR_NAME_MAX 63 /* characters, without the end */

struct vmp_slot {
	uint64_t pair_id;
	uint8_t node_id;
	char hostname[65];	  /* <pair>-<node id>; what is no host name is made one, with 8 digits of the pair id */
	char machine_id[33];	  /* 32 hex digits */
	char uuid[37];		  /* of the libvirt domain */
	char entry_tap[IFNAMSIZ]; /* vpe + 10 hex digits of the pair id: the same on each node */
	char internal_tap[IFNAMSIZ]; /* vpi + the same digits */
	uint8_t internal_mac[6];
	struct vmp_addr internal; /* family 0 when the pair has no internal net */
};

/* 0 when `name` matches [A-Za-z0-9][A-Za-z0-9_.-]{0,62}. */
int vmp_pair_name_check(const char *name, char *reason, size_t reason_size);

/* Fills *ret_ for member `node_id` (1..255) of the pair; `net` may be NULL. Fails when the net has no address number
 * node_id. */
int vmp_slot_derive(const char *pair, unsigned int node_id, const struct vmp_internal_net *net, struct vmp_slot *ret_,
		    char *reason, size_t reason_size);
/* The internal address of any node's member: the net's address number node_id. -EINVAL: it has none. */
int vmp_slot_internal_addr(const struct vmp_internal_net *net, unsigned int node_id, struct vmp_addr *ret_);
/* MAC of the member's NIC number `index` (0 = the internal one): locally administered, unicast, last byte is the node
 * id. */
void vmp_slot_mac(const char *pair, unsigned int node_id, unsigned int index, uint8_t ret_[static 6]);

#endif
