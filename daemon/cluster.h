/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Corosync: node list (cmap), quorum and the ordered group messages of the daemons (CPG). Nothing here is on the failover
 * path, and several of corosync's client calls block, so all of them live in one thread. Events come through a queue and an
 * eventfd; a corosync that is stopped, frozen or restarted shows as CLUSTER_LOST and, later, CLUSTER_UP.
 * One owner thread calls vmp_cluster_*; queues are bounded (256 each way).
 */
#ifndef VMP_CLUSTER_H
#define VMP_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	VMP_CLUSTER_MAX_NODES = 32,
	VMP_CLUSTER_MSG_MAX = 64 * 1024, /* bytes of one group message */
	VMP_CLUSTER_ADDR_LEN = 64,
};

struct vmp_cluster_node {
	uint32_t id;
	char name[64];                          /* nodelist name, else its ring0 address */
	char addr[2][VMP_CLUSTER_ADDR_LEN]; /* of ring 0 and 1; empty = none */
};

enum vmp_cluster_event_type {
	VMP_CLUSTER_UP,       /* connected; own_id and nodes are set */
	VMP_CLUSTER_LOST,     /* no connection to corosync */
	VMP_CLUSTER_NODELIST, /* the node list changed; own_id and nodes are set */
	VMP_CLUSTER_QUORUM,   /* quorate, and nodes[].id of the members */
	VMP_CLUSTER_MEMBERS,  /* daemons present in the group: nodes[].id */
	VMP_CLUSTER_MSG,      /* group message: from, data, len */
};

struct vmp_cluster_event {
	enum vmp_cluster_event_type type;
	uint32_t own_id;
	bool quorate;
	uint64_t ring_seq;
	unsigned n_nodes;
	struct vmp_cluster_node nodes[VMP_CLUSTER_MAX_NODES];
	uint32_t from;
	uint8_t *data; /* owned by the receiver of the event: vmp_cluster_event_done() */
	size_t len;
};

struct vmp_cluster;

int vmp_cluster_new(struct vmp_cluster **ret);
void vmp_cluster_free(struct vmp_cluster *c);
/* Readable when vmp_cluster_next() has something. */
int vmp_cluster_fd(const struct vmp_cluster *c);
/* 1 with *ret filled, 0 when there is nothing. */
int vmp_cluster_next(struct vmp_cluster *c, struct vmp_cluster_event *ret);
void vmp_cluster_event_done(struct vmp_cluster_event *ev);
/* Queue a message to all daemons of the group, the own one included. -ENOBUFS when the queue is full, -EMSGSIZE, -ENOTCONN. */
int vmp_cluster_send(struct vmp_cluster *c, const void *data, size_t len);

#endif
