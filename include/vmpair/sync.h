/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvmpair: state-sync heartbeats. A primary streams every access request and its processing status to a standby, so that the
 * standby can carry on when the primary is lost.
 *
 * Purpose   a record codec, and a session machine for each of the two members of a pair. No I/O, no clock, no threads, no globals,
 *           no logging: the caller carries bytes between the two sessions over an authenticated, ordered connection, tells the
 *           time, and asks for events. The machine decides what may be answered, never whether this member is primary: roles,
 *           epochs and modes are told to it (by vmpaird).
 * Units     times are nanoseconds of one monotonic clock of this machine (_ns); sizes are bytes.
 * Ownership what is passed in is copied. Pointers given out belong to the session; each function says how long they are valid.
 * Errors    negative errno. After -EPROTO the connection must be closed; vmpair_session_reason() tells why, in words.
 * Threads   a session belongs to one thread at a time; different sessions are independent.
 *
 * Words
 *   record    one entry of the stream from primary to standby, numbered 1, 2, 3 ... without gap over the life of a history
 *   history   random number drawn by a member that becomes primary without any content; survives takeovers
 *   position  (history, epoch of the record at number, number), compared when a standby comes back
 *   member    random number of a member's content; a full resynchronisation needs a fresh one first (see NEED_MEMBER)
 *   held      highest number the standby has confirmed: it has that record and all before it
 *   done      the client has its answer, as far as can be known; only then is a request forgotten
 *
 * What is recorded (the numbers that functions give back are those a client's answer has to wait for):
 *   journal   requests whole, "dispatched", answers (their bytes only where the request carries an id: nobody else can ask again).
 *             For members that share their state. A request that must never be executed twice is dispatched only when its
 *             "dispatched" record may leave (vmpair_session_may_leave() of its number), which costs one round trip.
 *   mirror    requests whole, in one total order in which every member executes them; of answers, length and digest.
 */
#ifndef VMPAIR_SYNC_H
#define VMPAIR_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- limits -------------------------------------------------------------------------------------------------------------- */
#define VMPAIR_SYNC_VERSION	1		/* of the wire format; both ends must have the same (HELLO) */
#define VMPAIR_SYNC_ALPN	"vmpair-sync/1"	/* of the TLS connection that carries it */
#define VMPAIR_ID_MAX		128u		/* a request id */
#define VMPAIR_DATA_MAX		65536u		/* data of one record; longer requests and answers are split by the session */
#define VMPAIR_OPEN_MAX		64u		/* data of an OPEN record */
#define VMPAIR_HEADER_LEN	56u
#define VMPAIR_RECORD_MAX	(VMPAIR_HEADER_LEN + VMPAIR_ID_MAX + VMPAIR_DATA_MAX)
#define VMPAIR_NEVER		UINT64_MAX
#define VMPAIR_BUFFER_MIN	65536u		/* least conf.buffer_bytes */

/* --- record codec ---------------------------------------------------------------------------------------------------------- */
enum vmpair_record_type {
	/* numbered, primary to standby */
	VMPAIR_START = 1,	/* an epoch begins: connections of earlier ones are closed, incomplete requests dropped; not so with SAME */
	VMPAIR_OPEN,		/* a connection; data: what the caller likes to tell (the client's address) */
	VMPAIR_REQUEST,		/* total: bytes of the request before this part */
	VMPAIR_DISPATCHED,	/* given to the application; an answer begun before is void */
	VMPAIR_ANSWER,		/* total: bytes of the answer before this part; with LAST: its length and digest */
	VMPAIR_DONE,
	VMPAIR_DROP,		/* data: why, in words */
	VMPAIR_CLOSE,		/* connection closed: its answered requests are done, the others when answered */
	/* not numbered */
	VMPAIR_HELLO = 32,	/* standby: who it is, what it holds */
	VMPAIR_WELCOME,		/* primary: from where it goes on, or that a fresh member is needed */
	VMPAIR_REFUSE,		/* data: why, in words; the sender closes */
	VMPAIR_CONFIRM,		/* standby: holds everything up to number */
	VMPAIR_PING,
	VMPAIR_SNAPSHOT,	/* primary: a piece of the application's state (mirror) */
	VMPAIR_SNAPSHOT_END,	/* primary: the table, and with mirror the state, are whole as of number */
};

/* Flags of records and of the calls that make them. */
#define VMPAIR_LAST		1u	/* this part completes the request or answer */
#define VMPAIR_IDEMPOTENT	2u	/* request: executing it again does no harm */
#define VMPAIR_HAS_ID		4u	/* request: carries an explicit id */
#define VMPAIR_SAME		8u	/* START: the same member goes on under a new epoch, its connections stay */
#define VMPAIR_NO_DIGEST	16u	/* vmpair_session_answer(): leave these bytes out of the digest (a Date header); not on the wire */
#define VMPAIR_IN_STATE		32u	/* while a snapshot is sent: this request has been executed in the state that is sent */

struct vmpair_record {
	uint8_t type, flags;
	uint16_t service;	/* index of the service, the caller's meaning */
	uint32_t seq;		/* of the request in its connection */
	uint64_t epoch, number, conn;
	uint64_t digest, total;
	const void *id, *data;	/* decoded: point into the buffer given */
	size_t id_len, data_len;
};

/*
 * encode: length written, -ENOSPC when `size` is too small, -EMSGSIZE when a limit is exceeded, -EINVAL for an unknown type or flag.
 * decode: length used, 0 when more bytes are needed, -EPROTO for anything encode would not make.
 */
int vmpair_record_encode(const struct vmpair_record *rec, void *buf, size_t size);
int vmpair_record_decode(const void *buf, size_t len, struct vmpair_record *ret);
const char *vmpair_record_name(unsigned int type);	/* "request"; "unknown" */

/* --- session: making one ------------------------------------------------------------------------------------------------- */
struct vmpair_session;

enum vmpair_kind { VMPAIR_JOURNAL, VMPAIR_MIRROR };
enum vmpair_role { VMPAIR_IDLE, VMPAIR_PRIMARY, VMPAIR_STANDBY };
enum vmpair_mode { VMPAIR_MODE_WAIT, VMPAIR_MODE_ALONE, VMPAIR_MODE_SYNC };

struct vmpair_session_conf {	/* zero it first: 0 is the default of what is named default */
	uint64_t pair;		/* both ends must agree */
	uint64_t member;	/* content id of this member, not 0; never used before by anybody */
	uint64_t random;	/* random number, not 0: a history is made from it */
	uint8_t node;		/* 1..255 */
	uint8_t kind;		/* enum vmpair_kind */
	bool pristine;		/* mirror: the application's state is that of the template, as it is on both members after their first start */
	bool can_export;	/* mirror: NEED_EXPORT can be answered */
	bool can_import;	/* mirror: IMPORT can be answered */
	size_t buffer_bytes;	/* stream buffer + table; default 64 MiB */
	size_t resume_bytes;	/* of the stream kept for a standby that comes back; default buffer_bytes / 4 */
	size_t request_max;	/* one request; default 1 MiB */
	size_t answer_max;	/* longer answers are not kept for repeats; default 1 MiB */
	uint64_t keep_ns;	/* done requests with an id are kept this long for repeats; default 60 s */
	uint64_t peer_timeout_ns;	/* connection silent for this long: lost; default 300 ms */
	uint64_t ping_ns;	/* default peer_timeout_ns / 6 */
	uint64_t stall_ns;	/* records unconfirmed without progress for this long: lost; default 5 s */
};

/* -EINVAL, -ENOMEM. The session starts in role idle, mode wait. */
int vmpair_session_new(struct vmpair_session **ret, const struct vmpair_session_conf *conf);
/* NULL is fine; returns NULL. */
struct vmpair_session *vmpair_session_free(struct vmpair_session *s);
/* Takes over what may change while it runs: keep_ns, peer_timeout_ns, ping_ns, stall_ns, request_max, answer_max. -EINVAL: the rest differs. */
int vmpair_session_reconf(struct vmpair_session *s, const struct vmpair_session_conf *conf);

/* --- session: role, epoch, mode ------------------------------------------------------------------------------------------ */

/*
 * From now on records below `epoch` are neither taken nor confirmed; a connection to a primary of a lower epoch is lost at once.
 * Never goes back. When it returns, that is so: answer the daemon then. On a primary it only forbids becoming standby of a lower one.
 */
void vmpair_session_fence(struct vmpair_session *s, uint64_t epoch);

/*
 * Primary of `epoch`: goes on with the history held, or begins one. 0; 1: a new history was begun; -ESTALE: epoch is below the fence
 * or not above the one of the newest record; -ENODATA: this member's content is not known (vmpair_session_broken()). Called on a primary
 * it raises the epoch and changes nothing else. Then, before clients are served:
 *   journal: vmpair_session_next_unfinished() for each request that has no answer: execute it (dispatched, answer) or drop it;
 *   mirror:  vmpair_session_execute() until it has nothing; what clients bring is executed behind that.
 * The connections of earlier epochs are closed by this: requests of theirs are done as soon as they are answered.
 */
int vmpair_session_primary(struct vmpair_session *s, uint64_t now_ns, uint64_t epoch);
/*
 * Standby of the primary of `epoch` or a later one (raises the fence). An open connection of the primary role is lost. 0; -ESTALE: `epoch` is
 * below the fence; the role is standby all the same, but that primary will be refused.
 */
int vmpair_session_standby(struct vmpair_session *s, uint64_t now_ns, uint64_t epoch);
/* No role; the content stays. */
void vmpair_session_idle(struct vmpair_session *s);

/*
 * Primary: what must have happened before an answer leaves. wait: nothing leaves; event CAUGHT with `op` comes when a standby holds all
 * that has been recorded until now. alone: at once. sync: when (node, member) has confirmed it.
 */
void vmpair_session_mode(struct vmpair_session *s, enum vmpair_mode mode, uint64_t op, uint8_t node, uint64_t member);

/*
 * Standby: answer to NEED_MEMBER, or at any time: the content is given up, the member is now this one. -EINVAL for 0 or the present
 * one; -EBUSY on a primary. The daemon must know the new id before this is called: the old one no longer stands for any content.
 */
int vmpair_session_set_member(struct vmpair_session *s, uint64_t member);

/* --- session: primary ---------------------------------------------------------------------------------------------------- */
struct vmpair_request {
	uint64_t conn;		/* chosen by the caller, unique over the pair's life (an epoch's counter in the upper bits) */
	uint32_t seq;		/* unique in its connection, growing */
	uint16_t service;
	uint8_t flags;		/* LAST, IDEMPOTENT, HAS_ID: all but LAST count on the first part only, as do service and id */
	const void *id, *data;
	size_t id_len, len;
};

/*
 * A request, whole (LAST) or in parts. *ret_number: its newest record. 0; -ENOBUFS: no memory left, nothing has happened: stop reading
 * clients until vmpair_session_room(); -EMSGSIZE: longer than request_max (what was recorded of it is dropped); -EEXIST: (conn, seq) is
 * complete already; -ENOMEM: it was dropped; -EINVAL; -EPERM: not primary. A request counts as accepted when it is complete.
 */
int vmpair_session_request(struct vmpair_session *s, uint64_t now_ns, const struct vmpair_request *req, uint64_t *ret_number);
/* Optional: a connection was opened; data, at most VMPAIR_OPEN_MAX, may tell from where. 0, -ENOBUFS, -EEXIST, -EMSGSIZE, -EPERM. */
int vmpair_session_open(struct vmpair_session *s, uint64_t now_ns, uint64_t conn, uint16_t service, const void *data, size_t len);
struct vmpair_conn {
	uint64_t conn;
	const void *data;	/* valid until the next call that changes the session */
	size_t len;
	uint16_t service;
};
/*
 * Either role: connections that were opened with data and are not closed, in no order; *cursor is 0 at first. A standby that takes over
 * asks before vmpair_session_primary(), which closes those of its predecessor. False: no more.
 */
bool vmpair_session_next_conn(const struct vmpair_session *s, uint64_t *cursor, struct vmpair_conn *ret);
/*
 * The request is given to the application now. Journal: recorded, an answer begun before is void. Mirror: not recorded; the caller
 * keeps to the order of the requests. 0; -ENOENT: no such complete request; -EALREADY: dispatched in this epoch (mirror: ever) by this member.
 */
int vmpair_session_dispatched(struct vmpair_session *s, uint64_t conn, uint32_t seq, uint64_t *ret_number);
/*
 * Bytes of the answer, in order; flags LAST, NO_DIGEST. They may leave when *ret_number may (0: nothing to wait for). On a standby of
 * the mirror kind: its own application's answer, which is compared; *ret_number is 0 then. ret_number may be NULL.
 * Journal: an answer may be given to a request that was not dispatched (by the caller itself). Without an id, and with mirror, parts of
 * an answer cost no record each.
 * 0; -ENOBUFS (nothing has happened, come again); -ENOMEM: it cannot be completed, drop it; -ENOENT: no such request, or (mirror) not
 * dispatched; -EALREADY: it has its answer.
 */
int vmpair_session_answer(struct vmpair_session *s, uint64_t now_ns, uint64_t conn, uint32_t seq, const void *data, size_t len,
			  unsigned int flags, uint64_t *ret_number);
/* The client has the answer. 0; -ENOENT; -EBUSY: not answered; -ENOMEM: nothing has happened (so for drop and close). */
int vmpair_session_done(struct vmpair_session *s, uint64_t now_ns, uint64_t conn, uint32_t seq);
/* The request will not be answered (any more); `why` goes to the standby. 0; -ENOENT; -EALREADY: it has its answer. */
int vmpair_session_drop(struct vmpair_session *s, uint64_t conn, uint32_t seq, const char *why);
/* The connection is closed: incomplete requests are dropped, answered ones are done, the others as soon as they are answered. 0; -ENOENT. */
int vmpair_session_close(struct vmpair_session *s, uint64_t now_ns, uint64_t conn);

/* Output commit: numbers up to this may leave. VMPAIR_NEVER: all. Changes are told by event HELD. */
uint64_t vmpair_session_leave_limit(const struct vmpair_session *s);
static inline bool vmpair_session_may_leave(const struct vmpair_session *s, uint64_t number)
{
	return number <= vmpair_session_leave_limit(s);
}
/* Whether a request of `len` bytes would be taken now; what memory is kept for repeats only counts as free. */
bool vmpair_session_room(const struct vmpair_session *s, size_t len);

/* --- session: the table ---------------------------------------------------------------------------------------------------- */
enum vmpair_state {
	VMPAIR_INCOMPLETE,	/* parts are missing */
	VMPAIR_RECEIVED,
	VMPAIR_UNDER_WAY,	/* dispatched, the answer is not complete */
	VMPAIR_ANSWERED,
	VMPAIR_FINISHED,	/* done; kept for repeats */
};

struct vmpair_entry {
	uint64_t conn, number;	/* number: of the request's last record */
	uint64_t answer_number;	/* of the answer's newest record, 0: none; a stored answer may leave when this may */
	uint64_t answer_len;	/* so far */
	uint32_t seq;
	uint16_t service;
	uint8_t flags;		/* IDEMPOTENT, HAS_ID */
	uint8_t state;		/* enum vmpair_state */
	bool here;		/* dispatched by this member */
	bool orphan;		/* its connection is closed */
	bool kept;		/* the bytes of the answer, up to answer_len, can be read */
	const void *id, *data;	/* the request; valid until it is forgotten: done, dropped, or any call of set_member, input, tick */
	size_t id_len, len;
};

/*
 * Walks the complete requests without a whole answer, in record order. *cursor starts with 0. True: *ret is the next. What the walk has
 * passed may be dispatched, answered or dropped meanwhile.
 */
bool vmpair_session_next_unfinished(struct vmpair_session *s, uint64_t *cursor, struct vmpair_entry *ret);
/* The newest request with this id; the caller decides what is compared beyond the id. 0, -ENOENT. */
int vmpair_session_find(struct vmpair_session *s, uint16_t service, const void *id, size_t id_len, struct vmpair_entry *ret);
/* By connection and sequence. 0, -ENOENT. */
int vmpair_session_entry(struct vmpair_session *s, uint64_t conn, uint32_t seq, struct vmpair_entry *ret);
/*
 * Stored answer from `offset` on: *ret_len contiguous bytes, 0 at its present end. 0; -ENOENT; -ENODATA: not kept. The pointer is valid
 * until the next call that changes the session.
 */
int vmpair_session_stored(struct vmpair_session *s, uint64_t conn, uint32_t seq, uint64_t offset, const void **ret, size_t *ret_len);

/* --- session: mirror ----------------------------------------------------------------------------------------------------- */
/*
 * The next request to be executed here, in record order, each exactly once. Counts as dispatched. On a standby it brings everything; on
 * a primary what was not executed when it took over, then what clients bring, so a primary may take all from here instead of calling
 * dispatched(). False: none now; event EXECUTE tells when there is one.
 */
bool vmpair_session_execute(struct vmpair_session *s, struct vmpair_entry *ret);
/*
 * Primary, after NEED_EXPORT: the application has answered everything that was dispatched, and nothing more is dispatched until its state
 * is taken: that state belongs to now. 0; -EBUSY: something is under way; -ENOENT: nobody asks (any more).
 */
int vmpair_session_export_start(struct vmpair_session *s);
/* Bytes of that state. 0; -ENOBUFS: come again when output has been taken; -ENOENT: nobody asks any more: stop. */
int vmpair_session_export(struct vmpair_session *s, const void *data, size_t len, bool last);
/* The state cannot be taken: the standby is refused. */
void vmpair_session_export_failed(struct vmpair_session *s, const char *why);
/* Standby, after the last IMPORT: the application has taken the state, or not. -ENOENT: not waiting for it (any more). */
int vmpair_session_imported(struct vmpair_session *s, uint64_t now_ns, bool ok);
/*
 * What the application holds is not known to be what the records say: it broke with requests under way, or it lost its state. The connection
 * is lost. A standby executes and confirms nothing any more, cannot be primary, and asks by NEED_MEMBER for a fresh id at once; it takes
 * everything anew. A primary goes on with what its application holds, in a new history, so that every standby takes everything anew.
 * 0; -EBUSY: mode is sync, the other member has everything: give up the role; -EINVAL: journal.
 */
int vmpair_session_broken(struct vmpair_session *s, uint64_t now_ns, const char *why);

/* --- session: link and time ---------------------------------------------------------------------------------------------- */
/*
 * A connection to the other member is there, authenticated. The standby initiates. One at a time: take the old one down first.
 * 0; -EPERM: the role does not fit; -EBUSY.
 */
int vmpair_session_link_up(struct vmpair_session *s, uint64_t now_ns, bool initiator);
void vmpair_session_link_down(struct vmpair_session *s, const char *why);
/* What came in, any pieces. 0; -EPROTO, -ENOMEM: close the connection (event LINK_LOST tells the same). */
int vmpair_session_input(struct vmpair_session *s, uint64_t now_ns, const void *buf, size_t len);
/* False: read no more from the connection now (memory); asked again after events and answers. */
bool vmpair_session_wants_input(const struct vmpair_session *s);
/* What is to be sent: *ret is valid until the next call that changes the session. 0: nothing. Then tell how much was taken. */
size_t vmpair_session_output(struct vmpair_session *s, const void **ret);
void vmpair_session_output_done(struct vmpair_session *s, uint64_t now_ns, size_t len);
/* Next instant at which a tick is wanted; VMPAIR_NEVER: none. Read the connection before ticking: a tick that comes late draws no conclusion. */
uint64_t vmpair_session_deadline(const struct vmpair_session *s);
void vmpair_session_tick(struct vmpair_session *s, uint64_t now_ns);

/* --- session: events ------------------------------------------------------------------------------------------------------- */
enum vmpair_event_type {
	VMPAIR_EV_NONE,
	VMPAIR_EV_HELD,		/* number: vmpair_session_leave_limit() has changed */
	VMPAIR_EV_ROOM,		/* after -ENOBUFS: there is room again */
	VMPAIR_EV_CAUGHT,	/* primary: on, node, member, op */
	VMPAIR_EV_EXECUTE,	/* mirror: vmpair_session_execute() has something */
	VMPAIR_EV_NEED_MEMBER,	/* standby: only a full resynchronisation can help, and this member's id may be on record */
	VMPAIR_EV_NEED_EXPORT,	/* primary, mirror: vmpair_session_export_start() is wanted */
	VMPAIR_EV_IMPORT,	/* standby, mirror: data, len, last; valid until the next call that changes the session */
	VMPAIR_EV_DIVERGED,	/* standby, mirror: conn, seq, number: the own answer differs from the primary's */
	VMPAIR_EV_REFUSED,	/* reason: by this side or the other. Send what is to be sent, then close the connection */
	VMPAIR_EV_LINK_LOST,	/* reason: close the connection */
};

struct vmpair_event {
	uint8_t type;		/* enum vmpair_event_type */
	uint8_t node;
	bool on, last;
	uint32_t seq;
	uint64_t number, member, op, conn;
	const void *data;
	size_t len;
	const char *reason;	/* valid until the next call that changes the session */
};

/* Takes the next event; false: none. Ask after every call that may cause one. */
bool vmpair_session_next_event(struct vmpair_session *s, struct vmpair_event *ret);

/* --- session: what it knows ---------------------------------------------------------------------------------------------- */
struct vmpair_info {
	uint8_t role, mode, kind;
	bool linked;		/* the connection has passed HELLO and WELCOME */
	bool caught_up;		/* primary: the standby holds what was recorded; standby: its content is whole */
	uint8_t peer_node;
	uint64_t epoch, fence, history, number, held;
	uint64_t member, peer_member;
	size_t bytes, buffer_bytes;	/* memory used of the limit */
	uint64_t entries, unfinished, finished;	/* in the table: all, without a whole answer, kept for repeats */
	/* counters since the start */
	uint64_t records_sent, records_taken, resumed, snapshots, refused, lost, diverged, evicted, confirmed;
};

void vmpair_session_info(const struct vmpair_session *s, struct vmpair_info *ret);
/* Why the newest connection was refused or lost; "" when none was. */
const char *vmpair_session_reason(const struct vmpair_session *s);

#ifdef __cplusplus
}
#endif

#endif
