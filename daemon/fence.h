/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fence: the static nft table `bridge vmpair`. It drops, in prerouting and postrouting at priority -350, every frame of
 * a port whose name is in `gated`, or begins as those of entry ports do, unless its ifindex is in `armed`: so the entry of a member
 * that an operator moves to a host that has none stays closed there. It holds no timeouts and is not refreshed. The
 * table is owner+persist where the kernel takes that (6.9 and newer): other processes can then neither flush nor delete
 * it, and it outlives this process. Elsewhere it has no flags: owner alone would make it vanish, failing open, with the
 * process.
 *
 * While there are gated addresses of the host itself, two more tables stand beside it, `inet vmpair` and `arp vmpair`. In the hooks
 * input and output they drop what this host would take for such an address, or send from it, unless it comes or goes by the one
 * interface that the address is armed for: ARP for it (an announcement by another host passes), packets to and from it, neighbour
 * solicitations for it and advertisements of it. What stays within the host (lo) passes; so does what is only forwarded.
 *
 * Errors: negative errno. Each change is one atomic nft transaction that waits for the kernel's answer, and may wait as
 * long as others hold the nftables commit mutex: not for an event loop. Not thread safe; one thread uses one fence.
 */
#ifndef VMP_FENCE_H
#define VMP_FENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMP_FENCE_TABLE "vmpair"
#define VMP_FENCE_PREFIX "vpe" /* slot.h: names of entry ports */
#define VMP_FENCE_MAX 128 /* elements per set */
#define VMP_FENCE_HOSTS 64 /* groups of host addresses */
#define VMP_FENCE_HOST_ADDRS 16 /* per group */

struct vmp_fence;

struct vmp_fence_addr {
	int family;	  /* AF_INET, AF_INET6 */
	uint8_t addr[16]; /* network order, first 4 bytes for AF_INET */
};

/* Opens sockets, touches no ruleset. no_owner: never try owner+persist. */
int vmp_fence_new(struct vmp_fence **ret, bool no_owner);
struct vmp_fence *vmp_fence_free(struct vmp_fence *f); /* closes sockets only; NULL is fine */

/* Write the whole table from the remembered sets, replacing what is there, in one transaction. -EBUSY: owned by another
 * process. */
int vmp_fence_install(struct vmp_fence *f);
/* Before the first install these only remember. Adding what is there, or removing what is not, is 0 without a
 * transaction. */
int vmp_fence_gate(struct vmp_fence *f, const char *ifname);
int vmp_fence_ungate(struct vmp_fence *f, const char *ifname);
int vmp_fence_arm(struct vmp_fence *f, int ifindex);
int vmp_fence_disarm(struct vmp_fence *f, int ifindex);
bool vmp_fence_armed(const struct vmp_fence *f, int ifindex);
/*
 * The group `name` of host addresses is these from now on (none: the group is gone); armed for an interface, or (ifindex 0) for none.
 * One transaction. On failure what was in force before is put back. An address is in one group only: the caller sees to that.
 */
int vmp_fence_host(struct vmp_fence *f, const char *name, int ifindex, const struct vmp_fence_addr *addrs, unsigned int n);
int vmp_fence_host_armed(const struct vmp_fence *f, const char *name); /* the interface, 0 = none */
bool vmp_fence_owned(const struct vmp_fence *f); /* owner+persist was accepted */

/* Watch of foreign changes. read: 1 = our table was touched by another process (or messages were lost), 0 = not. */
int vmp_fence_watch_fd(const struct vmp_fence *f);
int vmp_fence_watch_read(struct vmp_fence *f);
/* Is the table in the kernel what we wrote? 0 = yes, -EBADF = no, other = cannot tell. */
int vmp_fence_verify(struct vmp_fence *f);

/* Delete the tables, also those left by a dead process. 0 if there is none. -EBUSY: owned by a living process. */
int vmp_fence_delete(struct vmp_fence *f);

#endif
