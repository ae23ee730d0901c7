/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection between the two relays of a pair: TCP, TLS 1.3 with a pre-shared key (identity = key id of the key file,
 * every key of the file is accepted, the `send` key is offered), ALPN "vmpair-sync/1". The standby connects, the primary
 * listens. Bytes of the session go in and out; what the session gives in one round of the loop leaves in one write.
 *
 * Of several connections that proved the key the newest waits until the one in use has gone or been silent for half the
 * peer timeout: a standby that comes back is let in, and an old one cannot throw out the new one again and again.
 * Nothing is logged here; what was refused is given to note(). One thread.
 */
#ifndef VMPR_LINK_H
#define VMPR_LINK_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "daemon/keys.h"
#include "heartbeat/relay/ev.h"

struct vmpr_addr {
	socklen_t len; /* 0: none */
	struct sockaddr_storage ss;
};

/* Numeric, IPv4 or IPv6 (scope as fe80::1%eth0). -EINVAL. */
int vmpr_addr_parse(const char *text, uint16_t port, struct vmpr_addr *ret);

struct vmpr_link_ops {
	void (*up)(void *ctx, bool initiator);
	/* The connection in use ended; the reason is for people. */
	void (*down)(void *ctx, const char *reason);
	/* 0, or negative: the connection is closed (the callee has said why). */
	int (*input)(void *ctx, const uint8_t *buf, size_t len);
	bool (*wants)(void *ctx); /* false: no input now; vmpr_link_resume() later */
	/* What is to be sent; done() takes away what went. */
	void (*output)(void *ctx, const uint8_t **ret, size_t *ret_len);
	void (*output_done)(void *ctx, size_t len);
	/* Somebody was refused or could not be reached. */
	void (*refused)(void *ctx, const char *reason);
};

struct vmpr_conn; /* one connection, from TCP to TLS */

struct vmpr_link {
	struct vmpr_ev *ev;
	const struct vmpr_link_ops *ops;
	void *ctx;
	const struct vmp_keys *keys;
	gnutls_psk_client_credentials_t client_cred;
	gnutls_psk_server_credentials_t server_cred;
	gnutls_priority_t priority;
	struct vmpr_src listener;
	uint16_t port;
	struct vmpr_addr bind, peer;
	bool serve, connect; /* primary, standby */
	bool held;	     /* input was not wanted */
	struct vmpr_conn *used, *waiting, *open; /* in use; proved but second; list of all others */
	unsigned int n_open;
	uint64_t retry_at_ns, heard_ns, silent_ns;
	unsigned int retry_ms;
	uint64_t refused_ms, refused_ns; /* the peer refused what we are: come again later and later */
	struct vmpr_tmo_list handshakes;
};

/* Keys stay the caller's, and stay; vmpr_link_keys() after they were changed. Finds a port in [port_min, port_max] that is free. */
int vmpr_link_open(struct vmpr_link *l, struct vmpr_ev *ev, const struct vmp_keys *keys, const struct vmpr_addr *bind,
		   uint16_t port_min, uint16_t port_max, uint64_t silent_ns, const struct vmpr_link_ops *ops, void *ctx);
int vmpr_link_keys(struct vmpr_link *l);
void vmpr_link_close(struct vmpr_link *l);
/* As what this side takes part now, and where the peer is (len 0: nowhere). Ends a connection that does not fit any more. */
void vmpr_link_role(struct vmpr_link *l, bool serve, bool connect);
/* The other end refused this one, or was refused: the next connection has time. */
void vmpr_link_refused(struct vmpr_link *l);
void vmpr_link_peer(struct vmpr_link *l, const struct vmpr_addr *peer);
/* End the connection in use, without a call of down(). */
void vmpr_link_drop(struct vmpr_link *l);
/* Send what the session has. */
void vmpr_link_flush(struct vmpr_link *l);
void vmpr_link_resume(struct vmpr_link *l);
uint64_t vmpr_link_deadline(const struct vmpr_link *l);
void vmpr_link_tick(struct vmpr_link *l);

#endif
