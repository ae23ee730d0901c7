/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control socket, client side, for agents and vmpair(8): blocking calls with hard time limits. See ctl.h for the messages.
 * Errors are negative errno: -ENOENT or -ECONNREFUSED (no daemon), -EACCES, -ETIMEDOUT, -ECONNRESET (dropped), -EPROTO.
 */
#ifndef VMP_CTLCLIENT_H
#define VMP_CTLCLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct vmp_ctlc;

/* One attempt, waiting at most timeout_ms where the daemon's backlog is full. path NULL = VMP_CTL_SOCKET. */
int vmp_ctlc_open(struct vmp_ctlc **ret, const char *path, int timeout_ms);
/* Repeats the attempt while there is no daemon (it may be restarting), at most timeout_ms in all. */
int vmp_ctlc_open_wait(struct vmp_ctlc **ret, const char *path, int timeout_ms);
struct vmp_ctlc *vmp_ctlc_free(struct vmp_ctlc *c);

/*
 * Sends req (borrowed) and waits for the ack (ack_ms) and then for the reply (reply_ms). *ret_acked, where given, tells on failure
 * whether the daemon had taken the request. The reply is a new reference; its rc is the caller's to read.
 */
int vmp_ctlc_call(struct vmp_ctlc *c, const json_t *req, int ack_ms, int reply_ms, json_t **ret, bool *ret_acked);
/* Next message of a subscription; timeout_ms -1 = wait for ever. */
int vmp_ctlc_next(struct vmp_ctlc *c, int timeout_ms, json_t **ret);

#endif
