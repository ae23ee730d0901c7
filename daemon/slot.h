/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What follows from a pair's name and a node id: each member's own identity on its host ("slot"). Only the entry MAC and
 * the entry addresses are shared by the two members; everything here differs between nodes, without any coordination.
 * Also the parsing of the address parameters of a pair.
 *
 * Pure functions on plain values, any thread, no I/O. Errors: -EINVAL with one clear sentence in `reason`.
 */
#ifndef VMP_SLOT_H
#define VMP_SLOT_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMP_PAIR_NAME_MAX 63 /* characters, without the end */
#define VMP_ENTRY_MAX 16     /* entry addresses of one pair */
#define VMP_ADDR_STRLEN 52   /* IPv6 text, '/', prefix length, end */

/* An interface address: IPv4 in the first four bytes (network order), or IPv6. */
struct vmp_ifaddr {
	uint8_t family; /* AF_INET or AF_INET6; 0 = none */
	uint8_t prefix_len;
	uint8_t addr[16];
};

struct vmp_entry_list {
	unsigned int n;
	struct vmp_ifaddr addr[VMP_ENTRY_MAX];
};

/* internal_net = PREFIX[@BRIDGE]; `bridge` is "" when none is given. */
struct vmp_internal_net {
	struct vmp_ifaddr net; /* host bits are zero */
	char bridge[IFNAMSIZ];
};

struct vmp_slot {
	uint64_t pair_id;
	uint8_t node_id;
	char hostname[65];	       /* <pair>-<node id>; a name that is no host name is made one, with 8 digits of the pair id */
	char machine_id[33];	       /* 32 hex digits */
	char uuid[37];		       /* of the libvirt domain */
	char entry_tap[IFNAMSIZ];      /* vpe + 10 hex digits of the pair id: the same on each node */
	char internal_tap[IFNAMSIZ];   /* vpi + the same digits */
	uint8_t internal_mac[6];
	struct vmp_ifaddr internal;    /* family 0 when the pair has no internal net */
};

/* 0 when `name` matches [A-Za-z0-9][A-Za-z0-9_.-]{0,62}. */
int vmp_pair_name_check(const char *name, char *reason, size_t reason_size);
/* FNV-1a 64 of the name; never 0. */
uint64_t vmp_pair_id(const char *name);

/* Fills *ret_ for member `node_id` (1..255) of the pair; `net` may be NULL. Fails when the prefix has no address number node_id. */
int vmp_slot_derive(const char *pair, unsigned int node_id, const struct vmp_internal_net *net, struct vmp_slot *ret_,
		    char *reason, size_t reason_size);
/* MAC of the member's NIC number `index` (0 = the internal one): locally administered, unicast, last byte is the node id. */
void vmp_slot_mac(const char *pair, unsigned int node_id, unsigned int index, uint8_t ret_[static 6]);

/* Comma or blank separated ADDRESS/PREFIX list. Refused: none, too many, duplicates, network, broadcast, multicast, loopback... */
int vmp_entry_parse(const char *text, struct vmp_entry_list *ret_, char *reason, size_t reason_size);
int vmp_internal_net_parse(const char *text, struct vmp_internal_net *ret_, char *reason, size_t reason_size);

/* True when both lists hold one address (prefix lengths apart); it is copied to *ret_common. */
bool vmp_entry_overlap(const struct vmp_entry_list *a, const struct vmp_entry_list *b, struct vmp_ifaddr *ret_common);
/* True when two pairs' internal nets would give two members one address: overlapping prefixes on the same bridge. */
bool vmp_internal_net_overlap(const struct vmp_internal_net *a, const struct vmp_internal_net *b);

bool vmp_ifaddr_equal(const struct vmp_ifaddr *a, const struct vmp_ifaddr *b); /* prefix lengths apart */
/* "192.0.2.7/24"; without the prefix length when with_prefix is false. Returns buf. */
const char *vmp_ifaddr_str(const struct vmp_ifaddr *a, bool with_prefix, char buf[static VMP_ADDR_STRLEN]);
const char *vmp_mac_str(const uint8_t mac[static 6], char buf[static 18]);
/* "52:54:00:12:34:56"; -EINVAL unless it is a valid unicast address other than zero. */
int vmp_mac_parse(const char *text, uint8_t ret_[static 6]);

#endif
