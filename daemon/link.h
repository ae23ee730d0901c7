/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * link: taps, bridge membership, forwarding database, addresses, clsact qdiscs and filters, and the watch of links,
 * addresses and tc; rtnetlink through libmnl.
 *
 * Errors: negative errno as the kernel gave it. Each request waits for the kernel's acknowledgement and for the rtnl
 * lock, so these are for the gate's worker, start-up and tests, not for the loop. Not thread safe; one thread uses one
 * handle.
 */
#ifndef VMP_LINK_H
#define VMP_LINK_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vmp_link;

struct vmp_link_info {
	int ifindex;
	int master; /* 0 = none */
	char name[IFNAMSIZ];
	char kind[16]; /* IFLA_INFO_KIND; "" for hardware */
	bool up, carrier;
	bool xdp; /* an XDP program is attached */
	bool tap; /* kind tun in tap mode */
	uint32_t mtu;
	uint8_t mac[6]; /* zero unless it is an Ethernet interface */
};

int vmp_link_new(struct vmp_link **ret);
struct vmp_link *vmp_link_free(struct vmp_link *l); /* NULL is fine */

/* -ENODEV if there is none. */
int vmp_link_get(struct vmp_link *l, const char *name, struct vmp_link_info *ret);
int vmp_link_get_index(struct vmp_link *l, int ifindex, struct vmp_link_info *ret);
/* Every port of a bridge; cb returns non-zero to stop, which is then returned. */
int vmp_link_ports(struct vmp_link *l, int bridge, int (*cb)(void *user, const struct vmp_link_info *li), void *user);

/* Persistent tap; 0 also if it exists as a tap (adopted). A new one is down. */
int vmp_link_tap_add(const char *name, bool multi_queue);
int vmp_link_tap_del(const char *name); /* 0 if there is none */
/* Host side of a port: MAC fe:... of the guest's (so the bridge keeps its own), the bridge's MTU, no IPv6 address. It
 * stays down. */
int vmp_link_setup(struct vmp_link *l, int ifindex, uint32_t mtu, const uint8_t guest_mac[6]);
int vmp_link_set_master(struct vmp_link *l, int ifindex, int master);
int vmp_link_set_up(struct vmp_link *l, int ifindex, bool up);
int vmp_link_set_port_state(struct vmp_link *l, int ifindex, uint8_t br_state); /* BR_STATE_DISABLED 0, FORWARDING 3 */

int vmp_link_fdb_replace(struct vmp_link *l, int port, const uint8_t mac[6]);
int vmp_link_fdb_delete(struct vmp_link *l, int port, const uint8_t mac[6]); /* 0 if there is none */

/*
 * An address of the host that comes and goes. IPv4: as /32, so that no other address of the network becomes its secondary and goes with it,
 * and beside it a route to the network of `prefix`, behind the one of an address that the host has there anyway. IPv6: usable at once (no
 * duplicate address detection) and deprecated, so that the host takes it for no connection of its own. add: 0 if it is there. del: 0 if it
 * is not; takes only what add has put there.
 */
int vmp_link_addr_add(struct vmp_link *l, int ifindex, int family, const uint8_t *addr, unsigned int prefix);
int vmp_link_addr_del(struct vmp_link *l, int ifindex, int family, const uint8_t *addr, unsigned int prefix);

/* The first interface that has this address, not as add puts it there on interface `but`; 0 = none. */
int vmp_link_addr_foreign(struct vmp_link *l, int but, int family, const uint8_t *addr, unsigned int prefix);

/* clsact + cls_bpf, pref 1, direct action; the newest runs first. -EEXIST: the port has an `ingress` qdisc. */
int vmp_link_clsact_add(struct vmp_link *l, int ifindex);
int vmp_link_clsact_del(struct vmp_link *l, int ifindex);
int vmp_link_filter_add(struct vmp_link *l, int ifindex, bool egress, uint32_t handle, int prog_fd, const char *name);
int vmp_link_filter_del(struct vmp_link *l, int ifindex, bool egress, uint32_t handle); /* 0 if there is none */
/* Program ids of that side's filters in the order in which they run, 0 for what is no direct-action cls_bpf; their number, at most max. */
int vmp_link_filter_list(struct vmp_link *l, int ifindex, bool egress, uint32_t *ret_ids, unsigned int max);
/* Kind of the qdisc at ffff:fff1 ("clsact", "ingress", "" = none). */
int vmp_link_ingress_kind(struct vmp_link *l, int ifindex, char *ret_kind, size_t len);

enum vmp_link_change { VMP_LINK_NEW, VMP_LINK_DEL, VMP_LINK_TC, VMP_LINK_ADDR_DEL, VMP_LINK_OVERRUN };

/* Watch of links, tc and removed addresses; changes made through this handle are left out of TC and ADDR_DEL, which set only
 * info->ifindex. */
int vmp_link_watch_fd(const struct vmp_link *l);
int vmp_link_watch_read(struct vmp_link *l,
			void (*cb)(void *user, enum vmp_link_change what, const struct vmp_link_info *li), void *user);

#endif
