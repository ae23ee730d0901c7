/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmpair-relay: takes client connections on the entry address, gives their requests to the member's application and streams
 * every request and its status to the peer relay, so that the standby can carry on.
 *
 *   ev       epoll loop, time limits            ctl     control channel to vmpaird
 *   client   connections of clients, requests   backend connections to the application: pool (journal), lane (mirror)
 *   link     TLS to the peer relay              live    liveness by datagrams
 *   relay    session of libvmpair, role, mode, takeover, what leaves when           hook    export and import commands
 *
 * Safety is libvmpair's: a byte of an answer leaves only when vmpair_session_may_leave() of its record says so.
 * One thread. Negative errno. Times in ns of CLOCK_BOOTTIME, those of the configuration in ms.
 */
#ifndef VMPR_RELAY_H
#define VMPR_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/keys.h"
#include "daemon/log.h"
#include "daemon/tickle.h"
#include "heartbeat/frame/frame.h"
#include "heartbeat/relay/buf.h"
#include "heartbeat/relay/ctl.h"
#include "heartbeat/relay/ev.h"
#include "heartbeat/relay/link.h"
#include "heartbeat/relay/live.h"
#include "vmpair/sync.h"

enum {
	VMPR_SERVICES = 16,
	VMPR_LISTEN = 16,
	VMPR_SCRATCH = 65536,	     /* one read of a socket */
	VMPR_ID_BUCKETS = 4096,
	VMPR_OUT_HIGH = 256 * 1024,  /* a client that owes so much stops its backend, until ... */
	VMPR_OUT_LOW = 64 * 1024,
	VMPR_OUT_MAX = 64 << 20,     /* a lane cannot stop for one client: it is dropped */
	VMPR_CONNECTING = 64,	     /* connections to one application being made at once */
	VMPR_ACCEPTS = 256,	     /* a round */
	VMPR_PIPELINE = 128,	     /* requests of one client, or of the lane, under way at once where the framing allows more than one */
};

enum vmpr_redo { VMPR_REDO_NEVER, VMPR_REDO_IDEMPOTENT, VMPR_REDO_ALL };

struct vmpr_conf {
	char pair[64], backend[64], keys[256], bind[64], export_cmd[512], import_cmd[512];
	uint64_t id, member;
	uint8_t node, kind, redo;
	bool pristine;
	unsigned int n_listen, n_services;
	char listen[VMPR_LISTEN][64];
	struct {
		char framing[64];
		uint16_t port, backend_port;
	} service[VMPR_SERVICES];
	uint64_t sync_buffer;
	uint32_t answer_keep_ms, max_request, peer_timeout_ms, hb_ms, port_min, port_max;
	/* limits that have no parameter of the pair */
	uint32_t request_ms, idle_ms, send_ms, connect_ms, answer_ms, hook_ms, max_clients, max_backends;
};

struct vmpr_relay;
struct vmpr_client;
struct vmpr_backend;
struct vmpr_req;

struct vmpr_req_list {
	struct vmpr_req *head, *tail;
	unsigned int n;
};

struct vmpr_service {
	struct vmpr_relay *r;
	uint16_t index;
	uint16_t port;
	struct vmp_frame_conf frame;
	unsigned int pipeline; /* requests of one connection at once */
	struct vmpr_addr backend;
	struct vmpr_backend *lane; /* mirror: its part of the lane */
	struct vmpr_backend *idle; /* connected, nothing under way; the newest first */
	unsigned int n_backends, n_connecting;
	struct vmpr_req_list queue; /* no connection to be had */
	uint64_t retry_at_ns;	    /* 0, or: the application could not be reached, try again then */
};

struct vmpr_listener {
	struct vmpr_src src;
	struct vmpr_addr addr;
	struct vmpr_service *service;
};

/* One request, from being recorded until it is done (or its client has gone and it is answered). */
enum vmpr_req_state { VMPR_REQ_COMMIT, VMPR_REQ_QUEUED, VMPR_REQ_SENT, VMPR_REQ_ANSWERED };

struct vmpr_req {
	struct vmpr_req *next;	       /* in the one list its state says: commit, queue or lane, backend, free */
	struct vmpr_req *cnext;	       /* client's, in order */
	struct vmpr_req *hnext;	       /* by (conn, seq): those with an id */
	struct vmpr_service *service;
	struct vmpr_client *client;    /* NULL: gone, or never here */
	struct vmpr_client *waiters;   /* clients that repeated the id meanwhile */
	struct vmpr_backend *be;
	uint64_t conn, number;	       /* number: of its "dispatched" record, while it waits for that */
	uint64_t end;		       /* answered: client's offset of the answer's end */
	uint64_t since_ns;
	uint32_t seq, flags, swallow;  /* flags: VMP_UNIT_* */
	uint8_t state;
	uint8_t why; /* enum vmp_refuse: it failed */
	bool hashed, dispatched, begun, retried;
};

/* Bytes up to `off` of the client may leave with `number`. */
struct vmpr_mark {
	uint64_t number, off;
	struct vmpr_client *c;
};

struct vmpr_counters {
	uint64_t accepted, requests, answers, repeats, refused[VMP_REFUSES], dropped_slow, backend_errors, diverged, out_of_order;
	uint64_t peer_refused, link_lost;
};

struct vmpr_takeover {
	bool open; /* not told yet */
	uint64_t epoch, at_ns, received, dispatched, answered, done, executed, dropped, kept, first_answer_us;
};

struct vmpr_hook;

struct vmpr_relay {
	struct vmpr_ev ev;
	struct vmpr_ctl ctl;
	struct vmpr_conf conf;
	bool configured, stop, stopping, guest;
	const char *keys_path; /* given on the command line, else the configuration's */
	struct vmp_keys keys;
	struct vmpr_pool pool;

	struct vmpair_session *session;
	enum vmpair_role role;
	enum vmpair_mode mode;
	bool synced, failed; /* synced: the peer was in sync, and nothing says that it is on record otherwise */
	uint64_t epoch, newest; /* newest: number of the newest record made here */
	uint64_t limit;		/* of what may leave, as of now */
	uint64_t next_conn;
	uint64_t member, instance; /* instance: of this process, random */

	struct vmpr_link link;
	struct vmpr_live live;

	struct vmpr_service service[VMPR_SERVICES];
	struct vmpr_listener *listeners;
	unsigned int n_listeners, n_clients, max_clients;
	bool accepting;
	struct vmpr_client *clients;  /* all */
	struct vmpr_client *dirty;    /* have bytes that may leave */
	struct vmpr_client *again;    /* have something to read or parse */
	struct vmpr_client *blocked;  /* wait for room */
	struct vmpr_backend *backends, *b_again, *b_blocked;
	struct vmpr_req_list commit;  /* wait for their "dispatched" record */
	struct vmpr_req *free_reqs;
	struct vmpr_req *ids[VMPR_ID_BUCKETS];
	unsigned int in_flight;
	struct vmpr_mark *marks; /* ring */
	uint32_t mark_head, mark_n, mark_cap;

	/* mirror: the one lane to the application */
	struct vmpr_req_list lane;
	struct vmpr_service *lane_sv; /* of what is under way */
	unsigned int lane_sent;
	unsigned int n_draining; /* connections of a lane that was given up; the application may still execute what it had not read */
	bool lane_paused;
	struct vmpr_hook *export_hook, *import_hook;

	struct vmpr_tmo_list t_request, t_idle, t_send, t_linger, t_settle, t_connect, t_answer, t_pool;
	uint64_t tick_ns, stats_ns, start_ns;
	struct vmpr_counters count, told;
	struct vmpr_takeover takeover;
	struct vmpr_tickles *tickles; /* clients of the old primary, NULL: all are told */
	uint8_t caught_node;
	json_t *caught_msg; /* newest word on that, for a daemon that comes back */
	struct vmp_ratelimit said[8];
	uint8_t scratch[2 * VMPR_SCRATCH];
};

/* --- relay.c */
int vmpr_relay_run(struct vmpr_relay *r, enum vmpr_ctl_kind kind, const char *path, int fd);
void vmpr_note(struct vmpr_relay *r, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* At most one a minute for each `slot`. */
enum { VMPR_SAY_CLIENT, VMPR_SAY_BACKEND, VMPR_SAY_PEER, VMPR_SAY_LIVE, VMPR_SAY_DIVERGED, VMPR_SAY_LIMIT, VMPR_SAY_ROOM, VMPR_SAY_LOST };
/* Ends this process; the daemon takes that as the loss of the member's content. */
void vmpr_fail(struct vmpr_relay *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void vmpr_say(struct vmpr_relay *r, int slot, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The session's newest record number, after calls that do not give it. */
uint64_t vmpr_newest(struct vmpr_relay *r);
/* Number of a record that was just made. */
static inline void vmpr_made(struct vmpr_relay *r, uint64_t number)
{
	if (number > r->newest)
		r->newest = number;
}
void vmpr_relay_first_answer(struct vmpr_relay *r);

/* --- client.c */
int vmpr_listen_open(struct vmpr_relay *r);
void vmpr_listen_close(struct vmpr_relay *r);
void vmpr_listen_watch(struct vmpr_relay *r, bool on);
void vmpr_clients_close(struct vmpr_relay *r);
/* Bytes for the client that may leave with `number` (0: at once). `more`: others follow in this round. */
void vmpr_client_put(struct vmpr_client *c, const void *data, size_t len, uint64_t number, bool more);
size_t vmpr_client_owes(const struct vmpr_client *c);
/* Its backend stops until the client has taken some. */
void vmpr_client_stops(struct vmpr_client *c, struct vmpr_backend *be);
/* The connection that has requests of this client under way; how many have not been given to one yet. */
struct vmpr_backend **vmpr_client_backend(struct vmpr_client *c);
unsigned int *vmpr_client_parked(struct vmpr_client *c);
/* An answer that was begun cannot be ended: reset, so that the client sees it. */
void vmpr_client_cut(struct vmpr_client *c);
/* It has waited too long; its request goes on without it. */
void vmpr_client_late(struct vmpr_client *c, enum vmp_refuse why);
/* Its tunnel's backend can take more. */
void vmpr_client_more(struct vmpr_client *c);
/* req's answer is complete (or it failed): account for it and go on with the client. last: the connection ends after it. */
void vmpr_client_answered(struct vmpr_req *req, bool last);
void vmpr_client_tunnel(struct vmpr_client *c, struct vmpr_backend *be);
void vmpr_client_eof(struct vmpr_client *c); /* no more answers will come: end when all has left */
void vmpr_clients_release(struct vmpr_relay *r);  /* what may leave has grown */
void vmpr_clients_flush(struct vmpr_relay *r);
void vmpr_clients_again(struct vmpr_relay *r);
void vmpr_clients_room(struct vmpr_relay *r);
void vmpr_clients_init(struct vmpr_relay *r);
struct vmpr_req *vmpr_req_new(struct vmpr_service *sv, uint64_t conn, uint32_t seq, uint32_t flags, uint32_t swallow);
void vmpr_req_free(struct vmpr_req *req);
struct vmpr_req *vmpr_req_find(struct vmpr_relay *r, uint64_t conn, uint32_t seq);
/* From the bytes of a recorded request; NULL: out of memory or not a request of this service. */
struct vmpr_req *vmpr_req_of(struct vmpr_relay *r, const struct vmpair_entry *e);

/* --- backend.c */
void vmpr_list_add(struct vmpr_req_list *l, struct vmpr_req *req);
struct vmpr_req *vmpr_list_pop(struct vmpr_req_list *l);
void vmpr_backends_init(struct vmpr_relay *r);
/* Recorded just now; data may be NULL, then the session has it. */
void vmpr_dispatch(struct vmpr_req *req, const void *data, size_t len);
bool vmpr_outcome_unknown(struct vmpr_relay *r, const struct vmp_frame_conf *frame, uint64_t conn, uint32_t seq, bool dispatched,
			  enum vmp_refuse why, uint64_t *ret_number);
/* What waited for its "dispatched" record, or for a connection, or in the lane. */
void vmpr_backends_release(struct vmpr_relay *r);
void vmpr_backends_again(struct vmpr_relay *r);
void vmpr_backends_room(struct vmpr_relay *r);
void vmpr_backends_tick(struct vmpr_relay *r);
uint64_t vmpr_backends_deadline(const struct vmpr_relay *r);
void vmpr_backends_close(struct vmpr_relay *r);
void vmpr_lane_keep(struct vmpr_relay *r);
void vmpr_lane_abandon(struct vmpr_relay *r);
void vmpr_lane_pump(struct vmpr_relay *r);
void vmpr_lane_fill(struct vmpr_relay *r);
/* Tunnels. */
void vmpr_backend_tunnel_open(struct vmpr_client *c, struct vmpr_service *sv);
size_t vmpr_backend_send_raw(struct vmpr_backend *be, const void *data, size_t len); /* bytes taken */
void vmpr_backend_shut(struct vmpr_backend *be);
void vmpr_backend_drop(struct vmpr_backend *be); /* its client has gone */
void vmpr_backend_resume(struct vmpr_backend *be);
void vmpr_backend_disown(struct vmpr_backend *be); /* what is under way goes on */

/* --- tickle.c */
/* What the record of a client's connection tells about it; its length. */
size_t vmpr_tickle_of(const struct vmpr_addr *server, const struct vmpr_addr *client, uint8_t wire[VMP_TICKLE_WIRE_MAX]);
void vmpr_tickles_collect(struct vmpr_relay *r);
void vmpr_tickles_start(struct vmpr_relay *r);
void vmpr_tickles_stop(struct vmpr_relay *r);
uint64_t vmpr_tickles_deadline(const struct vmpr_relay *r);
void vmpr_tickles_tick(struct vmpr_relay *r);

/* --- hook.c */
/* NEED_EXPORT: pause the lane, and run the command once nothing is under way. */
void vmpr_export_want(struct vmpr_relay *r);
void vmpr_export_pump(struct vmpr_relay *r);
void vmpr_import_data(struct vmpr_relay *r, const void *data, size_t len, bool last);
bool vmpr_import_wants(const struct vmpr_relay *r); /* false: no more input now */
/* The connection they worked for is over: nobody takes the state that is exported, what is imported will never be whole. */
void vmpr_hooks_abandon(struct vmpr_relay *r);
void vmpr_hooks_pump(struct vmpr_relay *r);
void vmpr_hooks_stop(struct vmpr_relay *r);

#endif
