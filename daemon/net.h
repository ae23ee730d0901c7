/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * UDP among daemons: sockets, peers and their links, sealing, statistics. Non-blocking; messages in and out are those of the
 * core. Every message to a peer goes over all of its links; the replay window removes the copies.
 *
 * One file descriptor (an epoll) is polled for reading by the owner's loop. vmp_net_dispatch() drains the sockets wholly before it
 * returns (rule V1), bounded by VMP_NET_DRAIN_MAX datagrams against a flood; the descriptor then stays readable. After a pause
 * call it before running timers. The clock is read after a datagram was taken from the socket.
 *
 * A message to a peer without a session is replaced by a hello and lost: the protocol repeats what matters. The `session`
 * callback tells when a peer (or a new start of it) can be reached, so the owner may send its heartbeat at once.
 *
 * Callbacks come from dispatch and send, on the caller's thread. `message` and `session` may call any function but free (a nested
 * dispatch does nothing); `report` none.
 * Library code: no logging; refusals go to the `report` callback, at most once a minute per peer and cause with the count since.
 * VMP_SEAL_OLD_SESSION is reported only when it goes on for a second: a restart of either side always causes a few.
 */
#ifndef VMP_NET_H
#define VMP_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "daemon/core/core.h"
#include "daemon/keys.h"
#include "daemon/seal.h"

#define VMP_NET_LINKS 2
#define VMP_NET_PEERS 32
#define VMP_NET_DRAIN_MAX 4096	/* more than the receive buffers hold */
#define VMP_NET_REPORT_NS (60ULL * 1000000000ULL)

/* Further causes of reports, after those of the seal. */
enum vmp_net_cause {
	VMP_NET_DECODE = VMP_SEAL_CAUSE_COUNT,	/* authentic, but not a message we know */
	VMP_NET_SEND,				/* the kernel refused to send; `err` says why */
	VMP_NET_CAUSE_COUNT
};
const char *vmp_net_cause_str(unsigned int cause);

struct vmp_net_addr {
	socklen_t len;		/* 0: unused */
	struct sockaddr_storage ss;
};

/* Numeric IPv4 or IPv6 (scope as fe80::1%eth0 allowed); no resolver is asked. -EINVAL. */
int vmp_net_addr_parse(const char *text, uint16_t port, struct vmp_net_addr *ret);
/* "192.0.2.1:5440", "[2001:db8::1]:5440" */
void vmp_net_addr_str(const struct vmp_net_addr *a, char *buf, size_t size);

struct vmp_net_ops {
	/* A message of a peer. now_ns was read after it left the socket. */
	void (*message)(void *ctx, uint8_t from, uint64_t now_ns, const struct vmp_msg *msg);
	/* A session with this start (inc) of the peer exists from now on. May be NULL. */
	void (*session)(void *ctx, uint8_t node, uint64_t inc);
	/* Something was refused: `count` times since the last report of this peer and cause. node 0: no peer of ours. err: negative errno
	 * for VMP_NET_SEND and VMP_NET_DECODE, else 0. from: textual source or destination address. May be NULL. */
	void (*report)(void *ctx, uint8_t node, unsigned int cause, uint64_t count, int err, const char *address);
};

struct vmp_net_param {
	uint8_t self;
	uint64_t inc;		/* random per start, not 0 */
	uint16_t port;		/* 0: any (tests) */
	unsigned int bind_count;	/* 0: all addresses, IPv4 and IPv6 */
	struct vmp_net_addr bind[VMP_NET_LINKS];
	const struct vmp_keys *keys;
	uint32_t settings;	/* peers with others are refused: vmp_seal_set_settings() */
	uint64_t (*now_ns)(void);	/* NULL: CLOCK_BOOTTIME */
};

struct vmp_net;

/* Opens the sockets. `reason` gets a sentence on failure. */
int vmp_net_new(struct vmp_net **ret, const struct vmp_net_param *param, const struct vmp_net_ops *ops, void *ctx,
		char *reason, size_t reason_size);
struct vmp_net *vmp_net_free(struct vmp_net *n);

int vmp_net_fd(const struct vmp_net *n);
/* Number of datagrams taken, or negative errno. */
int vmp_net_dispatch(struct vmp_net *n);

/* Add a peer or change its addresses (1..VMP_NET_LINKS; index = link). The session lives on. -ENOSPC, -EINVAL. */
int vmp_net_peer_set(struct vmp_net *n, uint8_t node, const struct vmp_net_addr *addr, unsigned int count);
int vmp_net_peer_del(struct vmp_net *n, uint8_t node);

/* Messages sent from within a callback of vmp_net_dispatch() wait until the datagrams read so far have been worked off; those to one
 * peer then leave joined. Others leave at once.
 * 0 when at least one datagram left (or the message waits), -ENOTCONN (hello sent instead), -ENOENT no such peer, or what encode or the kernel said. */
int vmp_net_send(struct vmp_net *n, uint8_t to, const struct vmp_msg *msg);
/* The same to several peers with few system calls; returns to how many it left. Unknown nodes are passed over. */
int vmp_net_send_many(struct vmp_net *n, const uint8_t *to, unsigned int count, const struct vmp_msg *msg);

/* Reload of the key file: no session is lost. */
int vmp_net_set_keys(struct vmp_net *n, const struct vmp_keys *keys);

struct vmp_net_link_stats {
	uint64_t tx, tx_errors, rx;
	uint64_t last_rx_ns;	/* by source address; tells which link works, proves nothing */
};

struct vmp_net_peer_stats {
	uint64_t inc;		/* 0: no session */
	uint64_t tx, rx;	/* messages */
	uint64_t causes[VMP_NET_CAUSE_COUNT];	/* received datagrams by what became of them */
	uint64_t last_rx_ns;	/* newest authentic datagram; 0: none */
	uint32_t rtt_us;
	unsigned int links;
	struct vmp_net_link_stats link[VMP_NET_LINKS];
};

/* node 0: what belongs to no peer. -ENOENT. */
int vmp_net_peer_stats(const struct vmp_net *n, uint8_t node, struct vmp_net_peer_stats *ret);

/* Local port (tests bind to 0). */
uint16_t vmp_net_port(const struct vmp_net *n);

#endif
