/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Liveness of the peer relay by datagrams: every interval each relay says its role, epoch, member and how far it holds the
 * stream, sealed like the daemons' heartbeats (daemon/seal.h). TCP alone would hide a peer that is frozen or cut off until
 * its time limits; the datagrams show it within peer_timeout. A tick that comes late draws no conclusion.
 * Bytes go out and in on the socket of its own, bound to the same port number as the link. One thread.
 */
#ifndef VMPR_LIVE_H
#define VMPR_LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/keys.h"
#include "daemon/seal.h"
#include "heartbeat/relay/ev.h"
#include "heartbeat/relay/link.h"

struct vmpr_word { /* what one datagram says */
	uint8_t role;
	uint64_t epoch, member, held;
};

struct vmpr_live {
	struct vmpr_ev *ev;
	struct vmpr_src sock;
	struct vmp_seal *seal;
	uint8_t self, node; /* node: the peer's, 0 none */
	struct vmpr_addr peer;
	uint64_t interval_ns, timeout_ns;
	uint64_t next_ns, heard_ns, last_tick_ns;
	bool heard; /* since the peer was named or the last loss */
	struct vmpr_word word; /* the peer's newest */
	uint64_t refused; /* datagrams an operator should hear of */
	enum vmp_seal_cause refused_why;
	bool news; /* refused has grown */
};

int vmpr_live_open(struct vmpr_live *v, struct vmpr_ev *ev, uint8_t self, const struct vmp_keys *keys, const struct vmpr_addr *bind,
		   uint16_t port, uint64_t interval_ns, uint64_t timeout_ns);
void vmpr_live_close(struct vmpr_live *v);
/* node 0: none. */
void vmpr_live_peer(struct vmpr_live *v, uint8_t node, const struct vmpr_addr *peer);
int vmpr_live_keys(struct vmpr_live *v, const struct vmp_keys *keys);
uint64_t vmpr_live_deadline(const struct vmpr_live *v);
/* Says `own` when it is time to. True: the peer had been heard and is silent for the timeout now (said once). */
bool vmpr_live_tick(struct vmpr_live *v, const struct vmpr_word *own);

#endif
