/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Inside of the session machine. stream.c: the encoded records, for sending; table.c: what they say, requests and answers;
 * session.c: roles, modes, what a primary does; link.c: handshake, resynchronisation, what comes in and goes out.
 * A function that changes the table is used by both roles, so a standby's table follows from the records alone.
 */
#ifndef VMPAIR_LIB_SESSION_H
#define VMPAIR_LIB_SESSION_H

#include "vmpair/sync.h"

#define EPOCHS_MAX 64		/* beginnings of epochs remembered for log matching; who is further behind gets everything anew */
#define CAUGHT_RING 8
#define DIVERGED_RING 32
#define REASON_LEN 200
#define IMPORT_QUEUE (1u << 20)	/* bytes of the application's state waiting for the importer, or for the connection */
#define SMALL_RECORDS 256	/* what a request may still need when memory is full: dispatched, done, its answer's end */

#ifdef VMPAIR_BUGS		/* test build only: wrong variants, switched on one by one */
#define VMPAIR_B(name) VMPAIR_BUG_##name,
enum vmpair_bug {
#include "heartbeat/lib/bugs.def"
	VMPAIR_BUG_COUNT
};
#undef VMPAIR_B
void vmpair_session_bugs(struct vmpair_session *s, uint64_t bugs);
#define BUG(s, name) ((s)->bugs >> VMPAIR_BUG_##name & 1)
#else
#define BUG(s, name) false
#endif

struct seg {
	struct seg *next;
	size_t cap, used;
	uint64_t first;		/* number of its first record */
	uint8_t data[];
};

struct chunk {
	struct chunk *next;
	size_t len, cap;
	uint8_t data[];
};

struct digest {
	uint64_t h, tail, len;
};

struct entry {
	struct entry *hash_next, *id_next;
	struct entry *prev, *next;		/* in the list of its state */
	struct entry *conn_prev, *conn_next;
	struct conn *conn;			/* NULL once finished */
	uint64_t conn_id, number, answer_number, done_ns;
	uint64_t disp_epoch;			/* in which this member dispatched it, 0: never */
	uint64_t told_digest, told_len;		/* of the answer, as recorded */
	uint64_t answer_len;			/* bytes so far */
	struct digest own;			/* mirror: of the answer given here */
	struct chunk *first, *newest;		/* stored answer */
	uint8_t *blob;				/* id, then the request */
	size_t len, cap, stored;
	uint32_t seq, hash, id_hash;
	uint16_t service;
	uint8_t flags, id_len;
	uint8_t list;				/* enum list */
	bool complete, dispatched, answered, done;
	bool given, executed;			/* mirror: to be executed here; its answer is whole here */
	bool in_state, compared;		/* mirror: executed within an imported state; the digests were compared */
	bool dropped_bytes;			/* the answer was too long, or memory too short, to be stored */
};

enum list { LIST_PARTIAL, LIST_LIVE, LIST_KEPT, LIST_COUNT };

struct conn {
	struct conn *hash_next;
	struct entry *first;
	uint64_t id;
	uint8_t *data;		/* as given with OPEN */
	uint16_t service;
	uint8_t data_len;
	bool closed, mark;
};

struct list_head {
	struct entry *first, *last;
	size_t n;
};

struct epoch_start {
	uint64_t epoch, first;
};

enum content { CONTENT_EMPTY, CONTENT_WHOLE, CONTENT_BROKEN };

enum link {
	LINK_DOWN,
	LINK_WAIT_HELLO,	/* primary */
	LINK_TABLE,		/* primary: table under way (journal) */
	LINK_WAIT_EXPORT,	/* primary: until the caller has begun */
	LINK_EXPORT,		/* primary: state under way */
	LINK_STREAM,		/* both: records */
	LINK_WAIT_WELCOME,	/* standby */
	LINK_WAIT_MEMBER,	/* standby: until the caller gave a fresh id */
	LINK_SNAPSHOT,		/* standby: table and state under way */
	LINK_WAIT_IMPORT,	/* standby: state is whole, the application takes it; records follow already */
	LINK_REFUSED,		/* what is queued may still leave */
	LINK_DEAD,
};

struct caught {
	bool on;
	uint8_t node;
	uint64_t member, op;
};

struct diverged {
	uint64_t conn, number;
	uint32_t seq;
};

struct vmpair_session {
	struct vmpair_session_conf conf;
	uint64_t now_ns;
	uint8_t role, mode, content, link;
	/* identity and position */
	uint64_t epoch;			/* primary: own */
	uint64_t reign;			/* primary: epoch it began with */
	uint64_t fence, member, history, last;
	bool used;			/* the member id may be on record */
	bool base_pristine;		/* record 1 applies to the template's state */
	struct epoch_start epochs[EPOCHS_MAX];
	unsigned int n_epochs;
	/* memory */
	size_t mem, kept_mem;
	/* stream */
	struct seg *seg_first, *seg_last, *seg_spare;
	size_t seg_size, stream_bytes;
	uint64_t buffered;		/* first number buffered; last + 1 when none */
	struct seg *cur;		/* what is sent next; NULL: not sending, or everything that there was at cur_wait */
	size_t cur_off, cur_bound;	/* cur_bound: next end of a record at or behind cur_off */
	bool sending;
	/* table */
	struct entry **of_key_table, **of_id_table;
	struct conn **of_conn_table;
	size_t key_size, id_size, conn_size;	/* powers of two */
	size_t n_keys, n_ids, n_conns;
	struct list_head list[LIST_COUNT];
	size_t n_unfinished;
	size_t n_unexecuted;		/* mirror: complete, and its answer here is not whole */
	struct entry *exec;		/* mirror: first live entry not given yet */
	struct entry *walk;
	uint64_t walk_number;
	/* mode */
	uint64_t wait_op, wait_mark;
	uint8_t sync_node;
	uint64_t sync_member;
	/* peer */
	uint8_t peer_node;
	uint64_t peer_hello;		/* primary: member that said HELLO */
	uint64_t peer_member, peer_epoch;	/* peer_epoch: standby: the primary's */
	uint64_t held;
	uint64_t mark;			/* caught up when held gets there */
	bool mark_set, caught, confirmed;	/* confirmed: a first confirmation came on this connection */
	uint64_t confirm_sent;
	bool confirm_due;
	uint64_t heard_ns, sent_ns, tick_ns, progress_ns;
	uint8_t *in;
	size_t in_len, in_cap;
	struct seg *ctl_first, *ctl_last;
	size_t ctl_off, ctl_bytes;
	bool snapping;			/* primary: what is kept for repeats is being sent, snap_walk is next */
	struct entry *snap_walk;
	bool export_due;	/* the application's state is asked for when snap_ahead more of these are sent, or all */
	size_t snap_ahead;
	uint64_t snap_number;		/* primary: table as of */
	struct chunk *import_first, *import_last;
	size_t import_bytes;
	bool import_end, import_told, import_ok;	/* all of it is here; a piece is with the caller; the application has taken it */
	/* events */
	struct caught caughts[CAUGHT_RING];
	unsigned int n_caughts;
	struct diverged diverged[DIVERGED_RING];
	unsigned int n_diverged;
	uint64_t told_limit;
	bool ev_refused, ev_lost, ev_need_member, ev_need_export, told_execute, want_room;
	size_t want_len;
	char reason[REASON_LEN];
	struct vmpair_info count;	/* the counters of it */
#ifdef VMPAIR_BUGS
	uint64_t bugs;
#endif
};

void *vmpair_alloc(struct vmpair_session *s, size_t size);
void vmpair_release(struct vmpair_session *s, void *p, size_t size);

/* --- stream.c ---------------------------------------------------------------------------------------------------------------- */
/* Encodes behind the newest record; number and epoch are set here. -ENOMEM. */
int vmpair_stream_append(struct vmpair_session *s, struct vmpair_record *rec);
/* Forgets whole segments of records up to `upto`, oldest first, until at most `keep` bytes are left. */
void vmpair_stream_trim(struct vmpair_session *s, uint64_t upto, size_t keep);
size_t vmpair_stream_trimmable(const struct vmpair_session *s, uint64_t upto);
void vmpair_stream_clear(struct vmpair_session *s);
/* Sending begins behind record `number`, which must be at least buffered - 1. */
void vmpair_stream_seek(struct vmpair_session *s, uint64_t number);
size_t vmpair_stream_out(const struct vmpair_session *s, bool to_boundary, const void **ret);
void vmpair_stream_out_done(struct vmpair_session *s, size_t len);
bool vmpair_stream_between(const struct vmpair_session *s);	/* not within a record */
/* Control queue. */
int vmpair_ctl_put(struct vmpair_session *s, const struct vmpair_record *rec);
void vmpair_ctl_clear(struct vmpair_session *s);

/* --- table.c ----------------------------------------------------------------------------------------------------------------- */
struct entry *vmpair_entry_find(struct vmpair_session *s, uint64_t conn, uint32_t seq);
struct entry *vmpair_entry_by_id(struct vmpair_session *s, uint16_t service, const void *id, size_t len);
struct conn *vmpair_conn_find(struct vmpair_session *s, uint64_t id);
/* 0, -ENOMEM */
int vmpair_conn_get(struct vmpair_session *s, uint64_t id, struct conn **ret);
int vmpair_conn_open(struct vmpair_session *s, const struct vmpair_record *rec);
/* One part; `offset` must be what is there. 0, -ENOMEM, -EEXIST, -EPROTO. */
int vmpair_table_request(struct vmpair_session *s, const struct vmpair_record *rec);
void vmpair_table_dispatched(struct vmpair_session *s, struct entry *e);
/* Bytes of the answer to be stored for repeats. */
void vmpair_table_store(struct vmpair_session *s, struct entry *e, const void *data, size_t len);
/* The record of the answer's end. */
void vmpair_table_answered(struct vmpair_session *s, struct entry *e, uint64_t digest, uint64_t len);
/* Mirror: the own application's answer is whole. */
void vmpair_table_executed(struct vmpair_session *s, struct entry *e);
void vmpair_table_given(struct vmpair_session *s, struct entry *e);
void vmpair_table_done(struct vmpair_session *s, struct entry *e);
void vmpair_table_forget(struct vmpair_session *s, struct entry *e);
void vmpair_table_close(struct vmpair_session *s, struct conn *c);
void vmpair_table_start(struct vmpair_session *s);	/* START without SAME */
void vmpair_table_clear(struct vmpair_session *s);
void vmpair_table_free(struct vmpair_session *s);
bool vmpair_table_evict(struct vmpair_session *s);	/* the oldest that is kept for repeats */
int vmpair_epoch_add(struct vmpair_session *s, uint64_t epoch, uint64_t first);
uint64_t vmpair_epoch_at(const struct vmpair_session *s, uint64_t number);	/* VMPAIR_NEVER: not known any more */

void vmpair_digest_init(struct digest *d);
void vmpair_digest_add(struct digest *d, const void *data, size_t len);
uint64_t vmpair_digest_end(const struct digest *d);

/* --- session.c --------------------------------------------------------------------------------------------------------------- */
bool vmpair_make_room(struct vmpair_session *s, size_t need, size_t limit);
uint64_t vmpair_trim_limit(const struct vmpair_session *s);
void vmpair_caught_set(struct vmpair_session *s, bool on);
void vmpair_caught_check(struct vmpair_session *s);
void vmpair_wipe(struct vmpair_session *s);

/* --- link.c ------------------------------------------------------------------------------------------------------------------ */
void vmpair_link_reset(struct vmpair_session *s);
__attribute__((format(printf, 2, 3))) void vmpair_link_lose(struct vmpair_session *s, const char *fmt, ...);
int vmpair_hello_send(struct vmpair_session *s);

#endif
