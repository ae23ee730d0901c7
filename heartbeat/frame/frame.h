/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Framings: where in a byte stream one request ends and one answer ends, and what a relay has to know of them.
 *
 * Pure functions: no I/O, clock, malloc, globals, logging. State lives in two structs that the caller zeroes (a fresh one is all
 * zero). A unit is what is recorded, dispatched and answered as one: its bytes are passed on exactly as they came. Whatever
 * was found out about a unit can be found out again by vmp_frame_request() over its bytes, so records need not carry it.
 *
 * http1   RFC 9112, strict: what two parsers could read differently is refused (see VMP_REFUSE_*). The id of a request is
 *         Idempotency-Key (as a string of RFC 9651 or bare), else X-Request-Id, followed by '@' and 16 hex digits that
 *         stand for method and target: gateways put one X-Request-Id on several calls. Requests with a safe method have
 *         no id: they are executed anew, a kept answer to a read would be stale. Who can guess another's key can get its
 *         answer, so keys should be random, as the draft of Idempotency-Key demands.
 * resp    RESP2 and inline commands. MULTI up to EXEC is one unit; the parser acknowledges the commands before EXEC itself
 *         (interim) and has the backend's "+QUEUED" swallowed, so what is answered, kept and compared is EXEC's answer. What needs a connection's own state (SELECT, WATCH, AUTH, SUBSCRIBE, ...) is refused,
 *         in mirror kind also what waits, what stops the server and what writes by chance (SPOP, XADD with *).
 * line    a line, an answer of one line. The id is a field, counted from 1, separated by blanks.
 * length-prefixed  a big- or little-endian length of 1, 2, 4 or 8 bytes, then as many bytes. The id is at a fixed place in them.
 * stream  no requests: units are what arrived; answers never end.
 */
#ifndef VMP_FRAME_H
#define VMP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum vmp_framing { VMP_FRAMING_HTTP1, VMP_FRAMING_RESP, VMP_FRAMING_LINE, VMP_FRAMING_LENGTH, VMP_FRAMING_STREAM, VMP_FRAMINGS };

#define VMP_FRAME_ID_MAX 128
#define VMP_FRAME_HEAD_DEFAULT (16u << 10)
#define VMP_FRAME_REQUEST_DEFAULT (1u << 20)

struct vmp_frame_conf {
	uint8_t framing;	/* enum vmp_framing */
	bool mirror;		/* every member executes everything, on one connection */
	uint8_t id_field;	/* line: 1... = that field is the id, 0 = none */
	uint8_t width;		/* length-prefixed: bytes of the length: 1, 2, 4, 8 */
	bool little;		/* length-prefixed: little-endian (else big) */
	bool inclusive;		/* length-prefixed: the length counts its own bytes too */
	uint16_t id_offset;	/* length-prefixed: where the id begins, counted behind the length */
	uint8_t id_len;		/* length-prefixed: bytes of the id, 0 = none */
	uint32_t max_head;	/* http1: request line and fields, and the same of an answer; bytes */
	uint32_t max_request;	/* the whole unit, bytes */
};

/* The name as in a pair's parameter "services", or NULL. */
const char *vmp_framing_name(enum vmp_framing framing);
/*
 * "http1", "resp", "line[,id=FIELD]", "length-prefixed[,width=N][,little][,inclusive][,id=OFFSET+LEN]", "stream". The rest of *ret
 * gets its defaults (width 4, big-endian, the two limits above, no mirror). 0, or -EINVAL.
 */
int vmp_framing_parse(const char *text, struct vmp_frame_conf *ret);

/* --- why a unit or a client was refused; index of a counter ------------------------------------------------------------------- */

enum vmp_refuse {
	VMP_REFUSE_NONE,
	VMP_REFUSE_SYNTAX,		/* no request line, wrong bytes in a field, NUL, bare LF or CR */
	VMP_REFUSE_VERSION,		/* not HTTP/1.0 or HTTP/1.1 */
	VMP_REFUSE_HOST,		/* HTTP/1.1 without, or more than one, or not a host */
	VMP_REFUSE_FOLD,		/* a field continued on the next line */
	VMP_REFUSE_LENGTH,		/* Content-Length no number, or more than one */
	VMP_REFUSE_LENGTH_CODING,	/* Content-Length and Transfer-Encoding */
	VMP_REFUSE_CODING,		/* Transfer-Encoding other than chunked, or twice, or with HTTP/1.0 */
	VMP_REFUSE_CHUNK,		/* bad chunk size, extension or end */
	VMP_REFUSE_EXPECT,		/* expectation other than 100-continue */
	VMP_REFUSE_ID,			/* request id longer than allowed, empty, or twice */
	VMP_REFUSE_METHOD,		/* CONNECT */
	VMP_REFUSE_UPGRADE,		/* a connection of mirror kind cannot become a stream */
	VMP_REFUSE_TARGET_SIZE,		/* the request line alone is longer than max_head */
	VMP_REFUSE_HEAD_SIZE,		/* too long, or too many fields */
	VMP_REFUSE_SIZE,		/* longer than max_request */
	VMP_REFUSE_COMMAND,		/* resp: needs connection state, or cannot be mirrored */
	VMP_REFUSE_BACKEND_DOWN,	/* these are the relay's own reasons, see vmp_frame_failure() */
	VMP_REFUSE_BACKEND_BROKEN,
	VMP_REFUSE_BACKEND_SLOW,
	VMP_REFUSE_CLIENT_SLOW,
	VMP_REFUSE_BUSY,
	VMP_REFUSE_LOST,		/* dispatched before a takeover, not answered, and not to be executed again */
	VMP_REFUSES
};

/* Short names ("bad-chunk") for counters, and what a log line says. Never NULL for a valid reason. */
const char *vmp_refuse_name(enum vmp_refuse why);
const char *vmp_refuse_text(enum vmp_refuse why);
/*
 * What the client gets for it: *ret_text (static memory) of *ret_len bytes, possibly 0. True when the connection can go on
 * afterwards; false: close it once that is sent.
 */
bool vmp_frame_failure(const struct vmp_frame_conf *conf, enum vmp_refuse why, const char **ret_text, size_t *ret_len);

/* --- requests ----------------------------------------------------------------------------------------------------------------- */

#define VMP_UNIT_IDEMPOTENT 0x0001u	/* may be executed twice (http1: by its method; resp: commands that only read) */
#define VMP_UNIT_HAS_ID 0x0002u
#define VMP_UNIT_CLOSE 0x0004u		/* the client's connection ends after the answer */
#define VMP_UNIT_UPGRADE 0x0008u	/* the answer may be VMP_PART_UPGRADED */
#define VMP_UNIT_HEAD 0x0010u		/* the answer has no body whatever it says */
#define VMP_UNIT_NO_ANSWER 0x0020u	/* stream */
#define VMP_UNIT_LOCAL 0x0040u		/* not passed on: the answer is `reply`; refused and to be counted if why is set */
#define VMP_UNIT_SKIP 0x0080u		/* no request at all (an empty line before one): drop the bytes */
#define VMP_UNIT_HTTP10 0x0100u
#define VMP_UNIT_VARIES 0x0200u		/* the answers of two members may differ in order or time: nothing to compare */

struct vmp_unit {
	size_t len;		/* bytes from the beginning of buf */
	uint32_t flags;
	uint32_t swallow;	/* for vmp_frame_answer_start() */
	uint32_t id_len;
	const char *id;		/* in buf or in *st: valid until the next call with either */
	const char *interim;	/* see below; static memory */
	size_t interim_len;
	const char *reply;	/* on error, and with LOCAL: what the client gets; static memory, may be of no length */
	size_t reply_len;
	enum vmp_refuse why;
};

struct vmp_frame_req {	/* private; all zero = at the beginning of a unit */
	uint32_t pos;		/* everything before is understood */
	uint32_t scanned;	/* no line end between pos and here */
	uint32_t line;		/* http1: end of the target; resp: where the current command began */
	uint32_t body_end;	/* http1: or the end of the chunk's data, or where the trailer began */
	uint32_t flags;
	uint32_t count;		/* http1: fields; resp: commands of a transaction before EXEC */
	uint32_t acked;		/* resp: of them acknowledged */
	uint32_t left;		/* resp: arguments still to come */
	uint32_t ext;		/* http1: bytes of chunk extensions */
	uint16_t seen;
	uint8_t state;
	uint8_t id_len, id_kind;
	uint64_t length;
	char id[VMP_FRAME_ID_MAX];
};

/*
 * buf begins at a unit and holds len bytes; call again with more bytes behind the same ones (the memory may have moved).
 *   1   *ret is a whole unit of ret->len bytes; *st is ready for the next
 *   0   more is needed. With ret->interim: the client waits for these bytes; they leave behind all earlier answers of the
 *       connection (http1: "100 Continue"; resp: "+QUEUED"). Then call again, also without new bytes;
 *       who parses a unit again to dispatch it just goes on
 *   -EBADMSG, -EMSGSIZE   send ret->reply behind all earlier answers, close, count ret->why; *st is useless
 * *ret is always set as a whole.
 */
int vmp_frame_request(struct vmp_frame_req *st, const struct vmp_frame_conf *conf, const char *buf, size_t len,
		      struct vmp_unit *ret);

/* --- answers ------------------------------------------------------------------------------------------------------------------ */

#define VMP_PART_DONE 0x1u	/* the answer ends with these bytes; *st is to be started anew */
#define VMP_PART_CLOSE 0x2u	/* (known from the head on) neither side of the connection can be used for another request */
#define VMP_PART_UPGRADED 0x4u	/* with DONE: both directions are a stream from here on */
#define VMP_PART_UNTIL_EOF 0x8u	/* (known from the head on) the backend's closing ends the answer */
#define VMP_PART_SWALLOW 0x10u	/* these bytes are not for the client */

struct vmp_part {
	size_t used;		/* bytes of buf that belong to the answer; the rest is kept and offered again with more behind */
	uint32_t flags;
	uint32_t vary_off, vary_len;	/* of the used ones, what differs between members by nature (http1: the value of Date) */
};

struct vmp_frame_ans {	/* private */
	uint32_t flags;		/* of the request */
	uint32_t swallow;
	uint32_t scanned;
	uint32_t part_flags;
	uint64_t left;		/* bytes of body or chunk; resp: of the bulk string */
	uint64_t items;		/* resp: values still to come */
	uint32_t pos, count, vary_off, vary_len;
	uint16_t seen, status;
	uint8_t state;
};

/* A new answer begins, to a unit with these flags and this swallow. */
void vmp_frame_answer_start(struct vmp_frame_ans *st, uint32_t unit_flags, uint32_t swallow);
/*
 * As much of the answer as can be told. 0 (with ret->used = 0: nothing before more bytes come; that is never asked for beyond
 * conf->max_head bytes), or -EBADMSG: the backend is broken, drop it. Call again while used > 0 and not DONE: each call gives
 * bytes of one kind. Bytes behind a DONE answer that no request asked for are the caller's to notice. *ret is always set.
 */
int vmp_frame_answer(struct vmp_frame_ans *st, const struct vmp_frame_conf *conf, const char *buf, size_t len, struct vmp_part *ret);
/* The backend has closed: 0 when the answer ended by that, -EBADMSG when it was cut off (or had not begun). */
int vmp_frame_answer_eof(const struct vmp_frame_ans *st, const struct vmp_frame_conf *conf);

#endif
