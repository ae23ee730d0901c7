/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Addresses as the parameters of a pair give them: ADDRESS/PREFIX, lists of entry addresses, the internal net, MACs.
 * Pure functions on plain values, any thread. Errors: -EINVAL, where there is a `reason` with one clear sentence in it.
 */
#ifndef VMP_ADDR_H
#define VMP_ADDR_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMP_ADDR_STRLEN 52    /* IPv6 text, '/', prefix length, end */
#define VMP_ENTRY_LIST_MAX 16 /* the most entry addresses any part of the product handles */

struct vmp_addr {
	int family;	   /* AF_INET, AF_INET6; 0 = none */
	uint8_t bytes[16]; /* network order; 4 used for v4, the rest 0 */
	uint8_t prefix;
};

/* PREFIX[@BRIDGE] */
struct vmp_internal_net {
	struct vmp_addr net;   /* host bits are zero */
	char bridge[IFNAMSIZ]; /* "" = none given */
};

/* ADDRESS/PREFIX, syntax only. */
int vmp_addr_parse(const char *text, struct vmp_addr *ret_);
/* 0 when a host may have it: not a network, broadcast, multicast, loopback, link-local or unspecified address. */
int vmp_addr_host_check(const struct vmp_addr *a, char *reason, size_t reason_size);
/*
 * Comma or blank separated list of host addresses into ret_[0..max-1], their number in *ret_n. Refused: an empty list,
 * too many, the same address twice, addresses no host may have. On failure ret_ is not defined.
 */
int vmp_entry_parse(const char *text, struct vmp_addr *ret_, unsigned int max, unsigned int *ret_n, char *reason,
		    size_t reason_size);
int vmp_internal_net_parse(const char *text, struct vmp_internal_net *ret_, char *reason, size_t reason_size);

bool vmp_addr_equal(const struct vmp_addr *a, const struct vmp_addr *b); /* prefix lengths apart */
/* The first address of `a` that is in `b` too, or NULL. */
const struct vmp_addr *vmp_entry_common(const struct vmp_addr *a, unsigned int n_a, const struct vmp_addr *b,
					unsigned int n_b);
/* True when two pairs' internal nets would give two members one address: overlapping prefixes on the same bridge. */
bool vmp_internal_net_overlap(const struct vmp_internal_net *a, const struct vmp_internal_net *b);
/* "192.0.2.7/24"; without the prefix length when with_prefix is false. Returns buf. */
const char *vmp_addr_str(const struct vmp_addr *a, bool with_prefix, char buf[static VMP_ADDR_STRLEN]);

/* "52:54:00:12:34:56"; -EINVAL unless it is a unicast address other than zero. */
int vmp_mac_parse(const char *text, uint8_t ret_[static 6]);
const char *vmp_mac_str(const uint8_t mac[static 6], char buf[static 18]);

#endif
