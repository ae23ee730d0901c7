/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control socket, daemon side: AF_UNIX SOCK_SEQPACKET, one JSON object per datagram (at most VMP_CTL_MAX_MSG bytes), root only.
 *
 * Request   {"v":1, "cmd":"NAME", "timeout_ms":N, ...}   timeout_ms is optional (default VMP_CTL_DEFAULT_TIMEOUT_MS).
 * Ack       {"ack":true}            sent by the server itself, at once: it proves that the daemon's loop runs.
 * Reply     {"rc":N, "reason":"...", ...}   rc is enum vmp_ctl_rc, which is also the exit code of vmpair(8).
 * Event     {"event":{...}}         only after a reply to "events" with "follow":true; {"lost":N} where the client was too slow.
 *
 * One request at a time per connection; the next one is read when the reply has been queued. A client that does not take its
 * answers within VMP_CTL_SEND_MS, or asks nothing for VMP_CTL_IDLE_MS (or client_timeout_ms), is dropped; no client can delay another or the loop.
 *
 * COMMANDS, and what the handler is expected to answer. `pair` is the pair's name everywhere; epochs are plain integers
 * (counter * 256 + node id); nodes are called by name in text and carry their id beside it.
 *
 * Of the agent (reply carries "ocf": OCF code, and reason becomes the exit reason, so at most 128 characters):
 *   start monitor stop promote demote reload validate
 *     {pair, rsc, node, params:{name:value, strings as in the CIB}, interval_ms (0 = probe or one-shot),
 *      role:"Promoted"|"Unpromoted"|"" (role of the recurring monitor in the CIB), timeout_ms}
 *   start is answered when the VM runs; stop when it is gone; promote when the entry is open or the time is over;
 *   demote when the entry is closed. A cancelled start, promote or stop is not undone by the server: see `cancelled`.
 *   A daemon that has not taken its pairs over yet answers "retry":true, and is asked again while the operation has time.
 *
 * Of the operator:
 *   status {pair?} -> {node:{id,name,version,uptime_ms,witness},
 *       cluster:{quorate, corosync:"up|down", pacemaker:"up|absent|unknown", libvirt:"up|down", voters, majority,
 *                regime:"lease|fencing|release-only", regime_reason},
 *       (on a witness corosync, pacemaker and libvirt are "none")
 *       nodes:[{id, name, voter, online, heard, rtt_us, abstaining, refused, reason, fenced:{from, for}|null,
 *              links:[{address, heard}]}],
 *       pairs:[{name, rsc, epoch, holder:NAME|null, holder_id, lease_left_ms:N|null (known on the holder only), entry_open,
 *               mode:"none|wait|alone|sync", sync:NAME|null, frozen, frozen_reason, held_ms, entries:[...],
 *               members:[{node, id, role:"primary|standby|starting|stopping|stopped|failed", running, ready, pid, internal,
 *                         score:N|null, reason}],
 *               problems:["..."]}],
 *       problems:["..."]}
 *   events {pair?, follow?, limit?} -> {events:[EVENT...]}, EVENT = {ts (CLOCK_REALTIME, ms), node, pair, what, text}
 *   why {pair} -> {pair, epoch, cause (text), node (where the entry was bound), t0_ns (CLOCK_REALTIME of t_ms 0), took_ms (real: first
 *       sign to entry bound), missing:[NAME of nodes that did not answer], events:[{t_ms (real), node, what, text, epoch}]}; what is
 *       one of cause detected unbound released claimed bound agreed ... ; "agreed" is Pacemaker's promote on the new primary.
 *   switchover {pair} -> {from, to, epoch, took_ms}
 *   hold {pair?, ms} -> {until_ms}; unhold {pair?}    without pair: all that this node holds
 *   force-primary {pair, yes:true} -> {epoch}
 *   fence {what:"off|on", node (name or id), by:"agent|operator"} -> {node, fenced, took_ms}; rc TIMEOUT: the outcome is open
 *   fence {what:"status", node} -> {node, fenced:{from, for}|null}; {what:"check", node?} the same, both FAILED where this node could not
 *       fence; {what:"list"} -> {nodes:[{name, id, fenced}]}
 *   key-rotate {} -> {key_id, nodes:[NAME...]}    new key, spread under the old one, taken into use by all, old one kept
 *   version {} -> {version, node}
 * Unknown commands are answered by the handler with VMP_CTL_USAGE.
 *
 * Thread rules: everything runs in the loop's thread. Nothing here logs.
 */
#ifndef VMP_CTL_H
#define VMP_CTL_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "internal/loopops.h"

#define VMP_CTL_VERSION			1
#define VMP_CTL_SOCKET			VMP_RUNDIR "/vmpaird.sock"
#define VMP_CTL_MAX_MSG			(256u * 1024)
#define VMP_CTL_MAX_CLIENTS		64
#define VMP_CTL_MAX_SUBSCRIBERS		32
#define VMP_CTL_MAX_QUEUE		256		/* events waiting for one subscriber */
#define VMP_CTL_DEFAULT_TIMEOUT_MS	60000
#define VMP_CTL_MAX_TIMEOUT_MS		3600000
#define VMP_CTL_SEND_MS			5000
#define VMP_CTL_IDLE_MS			10000

/* Also the exit codes of vmpair(8). */
enum vmp_ctl_rc {
	VMP_CTL_OK = 0,
	VMP_CTL_FAILED = 1,		/* failed or refused; reason says why */
	VMP_CTL_USAGE = 2,		/* unknown command, missing or bad argument */
	VMP_CTL_UNREACHABLE = 3,	/* made by the client side only: no daemon answers */
	VMP_CTL_NOT_FOUND = 4,		/* no such pair, or nothing to tell about it */
	VMP_CTL_TIMEOUT = 5,		/* not done in time; it may still happen */
	VMP_CTL_DENIED = 6,		/* not root */
};

struct vmp_ctl;

struct vmp_ctl_params {
	const struct vmp_loop_ops *ops;		/* copied */
	const char *path;			/* socket; an old one is removed, the directory must exist */
	uid_t allow_uid;			/* 0; tests allow their own */
	uint32_t client_timeout_ms;		/* takes no answer, or asks nothing, for this long: dropped; 0 = the defaults above */
	void *data;
	/*
	 * A request. msg is valid during the call (take a reference to keep it). It is answered by vmp_ctl_reply with this
	 * token, within the call or any time later; a token is never 0 and never used twice.
	 */
	void (*request)(void *data, uint64_t token, const char *cmd, json_t *msg);
	/* The client went away (rc -ECONNRESET) or its time is over (-ETIMEDOUT, already answered): a reply would be ignored. */
	void (*cancelled)(void *data, uint64_t token, int rc);
};

struct vmp_ctl_stats {
	uint64_t accepted, refused_uid, refused_full, bad_messages, dropped_slow, dropped_idle, timeouts, events_lost;
	unsigned clients, subscribers;
};

/* 0, or -errno with a reason. */
int vmp_ctl_new(struct vmp_ctl **ret, const struct vmp_ctl_params *params, char *reason, size_t reason_size);
/* Closes all, removes the socket; pending requests are not cancelled one by one. NULL is fine; returns NULL. */
struct vmp_ctl *vmp_ctl_free(struct vmp_ctl *ctl);

/*
 * Answer: steals `extra` (an object or NULL), in which "rc" and "reason" are set. 0, or -ENOENT when the client is gone (normal),
 * -E2BIG when the reply exceeds the limit (the client is told so).
 */
int vmp_ctl_reply(struct vmp_ctl *ctl, uint64_t token, int rc, const char *reason, json_t *extra);
/* Answer to an agent: rc 0 and the OCF code. */
int vmp_ctl_reply_ocf(struct vmp_ctl *ctl, uint64_t token, int ocf, const char *reason);
/*
 * Answer and make the connection a subscriber of events (of one pair, or of all with NULL). The token ends here. When no further
 * subscriber is allowed the client is told so, and -EBUSY is returned.
 */
int vmp_ctl_subscribe(struct vmp_ctl *ctl, uint64_t token, const char *pair, json_t *extra);
/* Sends an event to its subscribers; pair may be NULL (of no pair: goes to all). Borrows the event. */
void vmp_ctl_publish(struct vmp_ctl *ctl, const char *pair, const json_t *event);

/* Changes client_timeout_ms; for what begins to wait from now on. */
void vmp_ctl_set_client_timeout(struct vmp_ctl *ctl, uint32_t ms);
uint64_t vmp_ctl_deadline_ns(const struct vmp_ctl *ctl);
void vmp_ctl_tick(struct vmp_ctl *ctl, uint64_t now_ns);
void vmp_ctl_get_stats(const struct vmp_ctl *ctl, struct vmp_ctl_stats *ret);

#endif
